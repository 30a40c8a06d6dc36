"use strict";

// A page that is written anew while its study runs reads itself again, and stays where it was.
const kept = {
  key: `tuneflow ${location.pathname}`,
  save() {
    const open = this.details().flatMap(([name, one]) => (one.open ? [name] : []));
    const ways = [...document.querySelectorAll("#trials thead th")].map((head) => head.ariaSort);
    sessionStorage.setItem(this.key, JSON.stringify({ top: scrollY, open, ways }));
  },
  details() {
    const sections = [...document.querySelectorAll("section")];
    return sections.flatMap((part) => [...part.querySelectorAll("details")].map((one, at) => [`${part.id} ${at}`, one]));
  },
  restore() {
    const { top, open = [], ways = [] } = JSON.parse(sessionStorage.getItem(this.key) || "{}");
    sessionStorage.removeItem(this.key);
    this.details().forEach(([name, one]) => { one.open ||= open.includes(name); });
    addEventListener("load", () => this.sort(ways)); // what sorts comes later in the file
    if (top) scrollTo(0, top);
  },
  sort(ways) {
    const at = ways.findIndex(Boolean);
    const head = document.querySelectorAll("#trials thead th")[at];
    for (let clicks = 0; head && clicks < 2 && head.ariaSort !== ways[at]; clicks++) head.querySelector("button").click();
  },
};

// A row is of the trial that its id names. Of many, some are in a template until they are asked for.
const trialTable = document.querySelector("#trials table");
const further = trialTable?.querySelector("template")?.content ?? new DocumentFragment();
const trialRows = [...(trialTable?.tBodies[0].rows ?? []), ...further.children];
for (const row of trialRows) row.dataset.t = row.id.slice(6);

const more = document.querySelector(".more");
function showAll() {
  trialTable.tBodies[0].append(further);
  more?.remove();
}
function reach(hash) {
  if (trialRows.some((row) => `#${row.id}` === hash && !row.isConnected)) showAll();
}
if (more) {
  more.querySelector("button").hidden = false;
  more.querySelector("button").addEventListener("click", showAll);
  addEventListener("hashchange", () => reach(location.hash));
  document.addEventListener("click", (event) => reach(event.target.closest?.("a")?.hash));
  reach(location.hash);
}

const seconds = Number(document.documentElement.dataset.refresh);
try {
  kept.restore();
} catch { /* no storage for this page: it starts at its top */ }
if (seconds) {
  setInterval(() => {
    if (document.hidden) return;
    try { kept.save(); } catch { /* as above */ }
    location.reload();
  }, 1000 * seconds);
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
