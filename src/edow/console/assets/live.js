// Keeps a page up to date: asks for it again, and puts in the regions that changed. What has the focus, or is open,
// stays as it is; nothing is asked for while the page is hidden. Scripts in the answer are never run.
(() => {
  const every = 1000 * Number(document.body.dataset.live || 0);
  const lost = document.getElementById("lost");
  let tag = null;
  let failures = 0;

  const opened = (region) => new Set([...region.querySelectorAll("details[open][id]")].map((each) => each.id));

  const replace = (region, fresh) => {
    if (region.innerHTML === fresh.innerHTML) return;
    if (region.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) return;
    if (region.querySelector("details.act[open]")) return;
    const focused = region.contains(document.activeElement) ? document.activeElement.id || document.activeElement.getAttribute("href") : null;
    const open = opened(region);
    const scrolled = [...region.querySelectorAll(".scroll")].map((each) => [each.scrollLeft, each.scrollTop]);
    const checked = new Set([...region.querySelectorAll("input:checked")].map((each) => each.value));
    region.replaceChildren(...fresh.childNodes);
    for (const each of region.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = true;
    for (const each of region.querySelectorAll("input[type=checkbox]")) if (checked.has(each.value)) each.checked = true;
    region.querySelectorAll(".scroll").forEach((each, at) => scrolled[at] && each.scrollTo(...scrolled[at]));
    if (focused) {
      const again = document.getElementById(focused) || [...region.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === focused);
      again?.focus({ preventScroll: true });
    }
    document.dispatchEvent(new CustomEvent("edow:fresh", { detail: region }));
  };

  const look = async () => {
    const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(answer.statusText);
    tag = answer.headers.get("ETag");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of document.querySelectorAll("[data-region]")) {
      const fresh = page.getElementById(region.id);
      if (fresh) replace(region, fresh);
    }
    document.title = page.title;
  };

  const loop = async () => {
    if (!document.hidden) {
      try {
        await look();
        failures = 0;
      } catch {
        failures += 1;
      }
      if (lost) lost.hidden = failures < 2;
    }
    setTimeout(loop, every * Math.min(10, 1 + failures));
  };

  // A form that asks for no other page: it is sent, and this page looks what became of it.
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-quiet]");
    if (!form) return;
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter));
    try {
      const answer = await fetch(form.action, { method: "POST", body });
      if (!answer.ok) throw new Error(answer.statusText);
      tag = null;
      await look();
    } catch {
      if (lost) lost.hidden = false;
    }
  });

  if (every) setTimeout(loop, every);
})();
