
"use strict";
(() => {
  const root = document.documentElement;
  const KEY = "hybrid-bench-theme";
  // Storage is refused to some pages that were opened as files; then the choice holds until the page is closed.
  const recall = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* not remembered */ } };
  const chosen = recall();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen; // before anything is painted

  function themes() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const current = () => root.dataset.theme || (system.matches ? "dark" : "light");
    const other = () => (current() === "dark" ? "light" : "dark");
    const name = () => { button.textContent = other() === "dark" ? "Dark theme" : "Light theme"; };
    button.addEventListener("click", () => { root.dataset.theme = other(); remember(root.dataset.theme); name(); });
    system.addEventListener("change", name);
    name();
    button.hidden = false;
  }

  // On a phone a list of forty tables would stand between the reader and the first of them; it opens by a tap.
  function contents() {
    const list = document.querySelector("nav details");
    if (list && matchMedia("(max-width: 40rem)").matches) list.open = false;
  }

  // -- sorting: within each section, by the number that is not rounded; what has none comes last either way

  const valueOf = (row, place, words) => {
    const cell = row.cells[place];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    if (!words || cell.classList.contains("missing")) return null;
    return cell.textContent.trim();
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));

  function sortable(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const bodies = [...table.tBodies].map((body) => {
      const rows = [...body.rows];
      return { body, first: rows.filter((row) => row.matches(".section")), rows: rows.filter((row) => !row.matches(".section")) };
    });
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      const best = head.dataset.better === "high" ? "descending" : "ascending";
      const worst = best === "descending" ? "ascending" : "descending";
      const next = { none: best, [best]: worst, [worst]: "none" };
      button.addEventListener("click", () => {
        const order = next[head.getAttribute("aria-sort")];
        heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
        const way = order === "descending" ? -1 : 1;
        for (const { body, first, rows } of bodies) {
          const keyed = rows.map((row) => [valueOf(row, place, head.dataset.better === "text"), row]);
          if (order !== "none") {
            keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : way * compare(a, b)));
          }
          body.append(...first, ...keyed.map(([, row]) => row));
        }
      });
    });
  }

  // What a hint is about: of a point in a drawing without its label.
  const markOf = (item) => item.querySelector(".filled, .hollow, .cross") || item;

  // -- hints: on pointing, on focus and on a tap; titles without the wait

  function hints() {
    const tip = document.createElement("div");
    tip.id = "tip";
    tip.setAttribute("role", "tooltip");
    tip.hidden = true;
    document.body.append(tip);
    let owner = null;
    const hide = () => {
      tip.hidden = true;
      if (owner) owner.removeAttribute("aria-describedby");
      owner = null;
    };
    const show = (element) => {
      if (owner !== element) hide();
      owner = element;
      tip.textContent = element.dataset.hint;
      tip.hidden = false;
      element.setAttribute("aria-describedby", "tip");
      place();
    };
    const place = () => {
      if (!owner) return;
      const mark = markOf(owner).getBoundingClientRect();
      if (mark.bottom < 0 || mark.top > innerHeight) { hide(); return; }
      const size = tip.getBoundingClientRect();
      const left = Math.min(Math.max(mark.left + mark.width / 2 - size.width / 2, 8), innerWidth - size.width - 8);
      const above = mark.top - size.height - 8;
      tip.style.left = `${Math.max(left, 8)}px`;
      tip.style.top = `${above >= 4 ? above : mark.bottom + 8}px`;
    };
    for (const cell of document.querySelectorAll("td[title]")) {
      cell.dataset.hint = cell.title;
      cell.removeAttribute("title");
    }
    for (const title of document.querySelectorAll("svg .mark > title")) {
      title.parentNode.dataset.hint = title.textContent;
      title.remove();
    }
    const asked = (event) => (event.target instanceof Element ? event.target.closest("[data-hint]") : null);
    document.addEventListener("pointerover", (event) => {
      const element = asked(event);
      if (element) show(element);
      else if (document.activeElement && document.activeElement.dataset.hint && event.pointerType === "mouse") return;
      else hide();
    });
    document.addEventListener("focusin", (event) => { const element = asked(event); if (element) show(element); else hide(); });
    document.addEventListener("focusout", hide);
    document.addEventListener("click", (event) => { const element = asked(event); if (element) show(element); else hide(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    document.addEventListener("scroll", place, { capture: true, passive: true });
    addEventListener("resize", place);
  }

  // -- keys: one stop of Tab for each table or drawing, arrows go to the nearest hint in their direction

  function roving(box) {
    const items = [...box.querySelectorAll("[data-hint]")];
    if (!items.length) return;
    items.forEach((item, place) => item.setAttribute("tabindex", place ? "-1" : "0"));
    const go = (item) => {
      items.forEach((each) => each.setAttribute("tabindex", each === item ? "0" : "-1"));
      item.focus({ preventScroll: true });
      item.scrollIntoView({ block: "nearest", inline: "nearest" });
    };
    box.addEventListener("click", (event) => {
      const item = event.target.closest("[data-hint]");
      if (item) go(item);
    });
    const centre = (item) => {
      const around = markOf(item).getBoundingClientRect();
      return [around.left + around.width / 2, around.top + around.height / 2];
    };
    box.addEventListener("keydown", (event) => {
      const at = items.indexOf(document.activeElement);
      if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1] }[event.key];
      if (event.key === "Home" || event.key === "End") {
        event.preventDefault();
        go(event.key === "Home" ? items[0] : items[items.length - 1]);
      } else if (step) {
        event.preventDefault();
        const [axis, way] = step;
        const here = centre(items[at]);
        let nearest = null, least = Infinity;
        for (const item of items) {
          const there = centre(item);
          const ahead = way * (there[axis] - here[axis]);
          const cost = ahead + 4 * Math.abs(there[1 - axis] - here[1 - axis]);
          if (ahead > 0.5 && cost < least) { nearest = item; least = cost; }
        }
        if (nearest) go(nearest);
      }
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    themes();
    contents();
    document.querySelectorAll("table[data-sort]").forEach(sortable);
    hints();
    document.querySelectorAll("[data-rove]").forEach(roving);
    document.querySelectorAll(".asked").forEach((line) => { line.hidden = false; });
  });
})();
