// Small helps: one box ticks all, "/" goes to the search, Escape closes what is open, and what cannot be undone asks.
(() => {
  const count = () => {
    const ticked = document.querySelectorAll("input[name=ids]:checked").length;
    for (const each of document.querySelectorAll("[data-ticked]")) each.textContent = String(ticked);
    for (const each of document.querySelectorAll("[data-needs-ticked]")) each.disabled = ticked === 0;
  };
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const each of document.querySelectorAll("input[name=ids]")) each.checked = event.target.checked;
    }
    count();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); }
    }
    if (event.key === "Escape") {
      const open = event.target.closest("details.act[open]") || document.querySelector("details.act[open]");
      if (open) { open.open = false; open.querySelector("summary").focus(); }
    }
  });
  document.addEventListener("click", (event) => {
    for (const each of document.querySelectorAll("details.act[open]")) if (!each.contains(event.target)) each.open = false;
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.matches("details.act[open]")) event.target.querySelector("input:not([type=hidden]), textarea, button")?.focus();
  }, true);
  // A form with a mistake stays as it was typed, with what is wrong in it; without scripts that is a page of its own.
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("details.act form");
    if (!form || event.defaultPrevented) return;
    event.preventDefault();
    form.querySelector("[role=alert]")?.remove();
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, event.submitter)) });
      if (answer.ok) return location.assign(answer.url);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const said = [...page.querySelectorAll("#main [role=alert], #main [data-remedy]")].map((each) => each.textContent);
      const alert = Object.assign(document.createElement("p"), { className: "say bad", textContent: said.join("; ") || answer.statusText });
      alert.setAttribute("role", "alert");
      const wrong = [...form.elements].find((each) => each.name && each.type !== "hidden" && new RegExp(`\\b${each.name}\\b`, "i").test(alert.textContent));
      const place = wrong?.closest("label");
      place ? place.after(alert) : form.prepend(alert);
      wrong?.focus();
    } catch {
      document.getElementById("lost").hidden = false; // it may have been done: sending it again is a person's matter
    }
  });
  document.addEventListener("edow:fresh", count);
  document.addEventListener("DOMContentLoaded", () => {
    count();
    document.querySelector(".side li a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  });
})();
