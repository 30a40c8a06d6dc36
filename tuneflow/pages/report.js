"use strict";

// A page that is written anew while its study runs reads itself again, and stays where it was.
const kept = {
  key: `tuneflow ${location.pathname}`,
  save() {
    const open = [...document.querySelectorAll("details")].map((one) => one.open);
    sessionStorage.setItem(this.key, JSON.stringify({ top: scrollY, open }));
  },
  restore() {
    const { top, open } = JSON.parse(sessionStorage.getItem(this.key) || "{}");
    sessionStorage.removeItem(this.key);
    document.querySelectorAll("details").forEach((one, at) => { one.open = Boolean(open && open[at]); });
    if (top) scrollTo(0, top);
  },
};

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
