// What this browser keeps: the token, for this window only or until signing out, and what one chose.

interface Keeper {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** The browser's storage; where it forbids any, things are kept until the page is closed. */
function keeper(name: "localStorage" | "sessionStorage"): Keeper {
  try {
    const storage = window[name];
    storage.setItem("sungrow-try", "");
    storage.removeItem("sungrow-try");
    return storage;
  } catch {
    const kept = new Map<string, string>();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
      removeItem: (key) => void kept.delete(key),
    };
  }
}

const [lasting, passing] = [keeper("localStorage"), keeper("sessionStorage")];
const KEY = "sungrow-read-token";

export const savedToken = (): string | null => passing.getItem(KEY) ?? lasting.getItem(KEY);

export function saveToken(token: string, keep: boolean): void {
  forgetToken();
  (keep ? lasting : passing).setItem(KEY, token);
}

export function forgetToken(): void {
  passing.removeItem(KEY);
  lasting.removeItem(KEY);
}

const SYSTEM = "sungrow-system";

/** The device or plant looked at last, for an address that names none. */
export const savedSystem = (): string => lasting.getItem(SYSTEM) ?? "";

export const saveSystem = (key: string): void => lasting.setItem(SYSTEM, key);

export type Theme = "auto" | "light" | "dark";
const THEME = "sungrow-theme";

export function savedTheme(): Theme {
  const theme = lasting.getItem(THEME);
  return theme === "light" || theme === "dark" ? theme : "auto";
}

export function applyTheme(theme: Theme): void {
  if (theme === "auto") {
    lasting.removeItem(THEME);
    delete document.documentElement.dataset.theme;
  } else {
    lasting.setItem(THEME, theme);
    document.documentElement.dataset.theme = theme;
  }
}
