import { render } from "preact";
import { applyTheme, savedTheme } from "./session.ts";
import { texts } from "./texts.ts";
import { App } from "./ui/app.tsx";

applyTheme(savedTheme());
document.documentElement.lang = texts.locale;
const place = document.getElementById("app");
if (place) {
  place.replaceChildren();
  render(<App />, place);
}
const skip = document.getElementById("skip");
skip?.addEventListener("click", (event) => {
  event.preventDefault(); // the address after # belongs to the page
  document.getElementById("content")?.focus();
});
