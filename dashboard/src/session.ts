// The token of this browser: for this window only, or until signing out.

const KEY = "sungrow-read-token";

export const savedToken = (): string | null => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);

export function saveToken(token: string, keep: boolean): void {
  forgetToken();
  (keep ? localStorage : sessionStorage).setItem(KEY, token);
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

export type Theme = "auto" | "light" | "dark";
const THEME = "sungrow-theme";

export function savedTheme(): Theme {
  const theme = localStorage.getItem(THEME);
  return theme === "light" || theme === "dark" ? theme : "auto";
}

export function applyTheme(theme: Theme): void {
  if (theme === "auto") {
    localStorage.removeItem(THEME);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(THEME, theme);
    document.documentElement.dataset.theme = theme;
  }
}
