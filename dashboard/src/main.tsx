// The live page: signs in with a read token, then asks the documented API for the newest reading of each
// device. A value that was not read stays empty; it is never shown as 0.

const REFRESH_MS = 2000;
const TOKEN_KEY = "sungrow-read-token";
const DEVICES_EVERY = 15; // refreshes between two looks at the list of devices

const byId = (id) => document.getElementById(id);
const cards = new Map();
let timer = 0;
let round = 0;

class SignedOut extends Error {}

async function ask(path) {
  const response = await fetch(path, {
    headers: { Authorization: `Bearer ${localStorage.getItem(TOKEN_KEY)}` },
    cache: "no-store",
  });
  if (response.status === 401) throw new SignedOut("This token is not valid, or not any more.");
  if (response.status === 403) throw new SignedOut("This token may not read; ask for one with the scope read.");
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return response.json();
}

const number = (value, digits) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function power(watts) {
  if (watts == null) return "–";
  const size = Math.abs(watts);
  if (size < 1000) return `${number(size, 0)} W`;
  return `${number(size / 1000, size < 10_000 ? 2 : 1)} kW`;
}

const quantity = (value, unit, digits = 1) => (value == null ? null : `${number(value, digits)} ${unit}`);

function age(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

function card(device) {
  const known = cards.get(device.device_id);
  if (known) return known;
  const element = byId("device-template").content.cloneNode(true).firstElementChild;
  byId("devices").append(element);
  cards.set(device.device_id, element);
  return element;
}

const part = (element, name) => element.querySelector(`[data-part="${name}"]`);

function setFlow(element, name, watts, inwards) {
  const wire = element.querySelector(`[data-wire="${name}"]`);
  const node = element.querySelector(`[data-node="${name}"]`);
  node.dataset.known = wire.dataset.known = watts == null ? "no" : "yes";
  if (watts == null || Math.abs(watts) < 1) {
    delete wire.dataset.flow;
    return;
  }
  wire.dataset.flow = inwards ? "in" : "out";
  wire.style.setProperty("--weight", String(2.5 + Math.min(5, Math.abs(watts) / 1500)));
}

function fill(list, rows) {
  list.replaceChildren(
    ...rows
      .filter(([, value]) => value != null)
      .map(([title, value]) => {
        const row = document.createElement("div");
        const dt = document.createElement("dt");
        const dd = document.createElement("dd");
        dt.textContent = title;
        dd.textContent = value;
        row.append(dt, dd);
        return row;
      }),
  );
}

function words(values) {
  const sentence = [`Sun ${power(values.pv_power_w)}`];
  if (values.load_power_w != null) sentence.push(`house ${power(values.load_power_w)}`);
  if (values.battery_power_w != null) {
    sentence.push(`battery ${values.battery_power_w < 0 ? "discharging" : "charging"} ${power(values.battery_power_w)}`);
  }
  if (values.export_power_w != null) {
    sentence.push(`grid ${values.export_power_w < 0 ? "buying" : "selling"} ${power(values.export_power_w)}`);
  }
  return sentence.join(", ");
}

function show(device, live) {
  const element = card(device);
  part(element, "name").textContent = device.name || device.device_id;
  part(element, "model").textContent = [device.model, device.name ? device.device_id : null]
    .filter(Boolean)
    .join(" · ");
  if (live === null) {
    element.dataset.state = "waiting";
    part(element, "state-text").textContent = "no reading yet";
    return;
  }
  element.dataset.state = live.stale ? "stale" : "live";
  part(element, "state-text").textContent = `${live.stale ? "stale, " : ""}${age(live.age_s)}`;

  const battery = live.battery_power_w;
  // Without a meter only the inverter's own output is known, not what of it reaches the grid.
  const isMetered = live.export_power_w != null;
  const grid = live.export_power_w ?? live.active_power_w;
  part(element, "sun").textContent = power(live.pv_power_w);
  part(element, "house").textContent = power(live.load_power_w);
  part(element, "battery").textContent = power(battery);
  part(element, "grid").textContent = power(grid);
  part(element, "soc").textContent = quantity(live.battery_soc_pct, "%", 0) ?? "Battery";
  part(element, "grid-label").textContent = !isMetered ? "AC output" : !grid ? "Grid" : grid > 0 ? "selling" : "buying";
  part(element, "soc-ring").style.strokeDasharray = `${live.battery_soc_pct ?? 0} 100`;
  part(element, "flow-title").textContent = words(live);
  setFlow(element, "sun", live.pv_power_w, true);
  setFlow(element, "battery", battery, battery < 0);
  setFlow(element, "grid", grid, grid < 0);
  setFlow(element, "house", live.load_power_w, true);

  fill(part(element, "today"), [
    ["Sun today", quantity(live.pv_daily_kwh, "kWh")],
    ["Bought today", quantity(live.import_daily_kwh, "kWh")],
    ["Sold today", quantity(live.export_daily_kwh, "kWh")],
    ["Charged today", quantity(live.battery_charge_daily_kwh, "kWh")],
    ["Discharged today", quantity(live.battery_discharge_daily_kwh, "kWh")],
  ]);
  fill(part(element, "details"), [
    ["State", live.running_state ?? null],
    ["AC power", live.active_power_w == null ? null : power(live.active_power_w)],
    ["Grid", quantity(live.grid_frequency_hz, "Hz", 2)],
    ["Inverter", quantity(live.inverter_temp_c, "°C")],
    ["Battery", quantity(live.battery_temp_c, "°C")],
    ["PV in total", quantity(live.pv_total_kwh, "kWh", 0)],
  ]);
}

let devices = [];

async function refresh() {
  try {
    if (round++ % DEVICES_EVERY === 0 || devices.length === 0) {
      devices = (await ask("/v1/devices"))?.devices ?? [];
    }
    byId("empty").hidden = devices.length > 0;
    const readings = await Promise.all(
      devices.map((device) => ask(`/v1/realtime?device_id=${encodeURIComponent(device.device_id)}`)),
    );
    devices.forEach((device, index) => show(device, readings[index]));
    notice("");
  } catch (error) {
    if (error instanceof SignedOut) return signOut(error.message);
    for (const element of cards.values()) {
      element.dataset.state = "offline";
      part(element, "state-text").textContent = "offline";
    }
    notice("The server cannot be reached. Values stay as they were; trying again.", true);
  }
  timer = setTimeout(refresh, REFRESH_MS);
}

function notice(text, isError = false) {
  const element = byId("notice");
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("error", isError);
}

function signOut(reason = "") {
  clearTimeout(timer);
  localStorage.removeItem(TOKEN_KEY);
  cards.clear();
  devices = [];
  byId("devices").replaceChildren();
  byId("empty").hidden = true;
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-in-error").textContent = reason;
  notice("");
  byId("token").focus();
}

function start() {
  byId("sign-in").hidden = true;
  byId("sign-out").hidden = false;
  round = 0;
  refresh();
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(TOKEN_KEY, byId("token").value.trim());
  byId("token").value = "";
  byId("sign-in-error").textContent = "";
  start();
});
byId("sign-out").addEventListener("click", () => signOut());

if (localStorage.getItem(TOKEN_KEY)) start();
else signOut();
