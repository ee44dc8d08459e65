// Live values of each device, asked for every two seconds. The token stays in this browser.
"use strict";

const SHOWN = [
  ["pv_power_w", "PV", "W"],
  ["load_power_w", "House", "W"],
  ["export_power_w", "Grid (+ export)", "W"],
  ["battery_power_w", "Battery (+ charging)", "W"],
  ["battery_soc_pct", "State of charge", "%"],
  ["pv_daily_kwh", "PV today", "kWh"],
];
const PERIOD_MS = 2000;

const login = document.getElementById("login");
const message = document.getElementById("message");
const cards = document.getElementById("devices");

const storedToken = () => sessionStorage.getItem("token") || localStorage.getItem("token");

function forgetToken() {
  sessionStorage.removeItem("token");
  localStorage.removeItem("token");
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${storedToken()}` }, cache: "no-store" });
  if (answer.status === 401) {
    forgetToken();
    throw new Error("This token is not valid any more.");
  }
  if (answer.status === 404) return null;
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

function element(name, text) {
  const node = document.createElement(name);
  node.textContent = text;
  return node;
}

function card(device, reading) {
  const section = document.createElement("section");
  section.append(element("h2", device.name || device.device_id));
  if (reading === null) {
    section.append(element("p", "no reading yet"));
    return section;
  }
  section.classList.toggle("stale", reading.stale);
  const list = document.createElement("dl");
  for (const [field, title, unit] of SHOWN) {
    const value = reading[field];
    list.append(element("dt", title), element("dd", value === null ? "unknown" : `${value} ${unit}`));
  }
  section.append(list, element("p", `${Math.round(reading.age_s)} s ago${reading.stale ? ", stale" : ""}`));
  return section;
}

async function refresh() {
  const { devices } = await ask("/v1/devices");
  const readings = await Promise.all(
    devices.map((device) => ask(`/v1/realtime?device_id=${encodeURIComponent(device.device_id)}`)),
  );
  cards.replaceChildren(...devices.map((device, index) => card(device, readings[index])));
}

async function loop() {
  login.hidden = Boolean(storedToken());
  if (storedToken()) {
    try {
      await refresh();
      message.textContent = "";
    } catch (error) {
      message.textContent = error.message;
    }
  }
  setTimeout(loop, PERIOD_MS);
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const store = document.getElementById("keep").checked ? localStorage : sessionStorage;
  store.setItem("token", document.getElementById("token").value.trim());
  login.hidden = true;
});

loop();
