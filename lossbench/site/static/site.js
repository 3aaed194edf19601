// What pages do without figures: the theme, sorting and filtering a leaderboard, two views of a matrix.
"use strict";
(() => {
  const root = document.documentElement;

  // --- theme ---
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const button = document.getElementById("theme");
  const told = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("themechange"));
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("lossbench-theme", root.dataset.theme); } catch { /* not remembered then */ }
    told();
  });
  system.addEventListener("change", told);
  told();

  // --- sorting ---
  const compare = (a, b, sign) => {
    const x = a === "" ? NaN : Number(a), y = b === "" ? NaN : Number(b);
    if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
    const lost = (value) => value === "" || value === "nan";
    if (lost(a) || lost(b)) return lost(a) - lost(b); // what has no value comes last either way
    return sign * a.localeCompare(b, "en");
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    table.tHead.addEventListener("click", (event) => {
      const pressed = event.target.closest("th button");
      if (!pressed) return;
      const head = pressed.closest("th"), now = head.getAttribute("aria-sort");
      const next = now === "none" ? pressed.dataset.first : now === "ascending" ? "descending" : "ascending";
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      const column = heads.indexOf(head), sign = next === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), sign)));
    });
  }

  // --- filtering ---
  const filter = document.getElementById("filter"), seeds = document.getElementById("minseeds");
  if (filter) {
    const rows = [...document.querySelector("table.board").tBodies[0].rows], shown = document.getElementById("shown");
    const apply = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), least = Number(seeds.value) || 0;
      let count = 0;
      for (const row of rows) {
        const text = row.cells[0].dataset.v.toLowerCase(); // the whole label, where the table cuts it
        row.hidden = !(words.every((word) => text.includes(word)) && Number(row.dataset.seeds) >= least);
        count += !row.hidden;
      }
      const losses = rows.length === 1 ? "loss" : "losses";
      shown.textContent = count === rows.length ? `${count} ${losses}` : `${count} of ${rows.length} ${losses}`;
    };
    filter.addEventListener("input", apply);
    seeds.addEventListener("input", apply);
    apply();
  }

  // --- IoU or differences in the heat map ---
  const mode = document.getElementById("heatmode");
  mode?.addEventListener("click", () => {
    const on = mode.getAttribute("aria-pressed") !== "true";
    mode.setAttribute("aria-pressed", String(on));
    for (const cell of document.querySelectorAll("#heat td[data-d]")) {
      cell.dataset.iou ??= cell.textContent;
      cell.textContent = on ? cell.dataset.d : cell.dataset.iou;
    }
  });

  // --- shares or counts in the confusion matrix ---
  const matrix = document.getElementById("matrix");
  if (matrix) {
    const counts = document.getElementById("counts"), line = document.getElementById("cell");
    const heads = [...matrix.tHead.rows[0].cells];
    const number = new Intl.NumberFormat("en");
    counts.addEventListener("click", () => {
      const on = counts.getAttribute("aria-pressed") !== "true";
      counts.setAttribute("aria-pressed", String(on));
      for (const cell of matrix.querySelectorAll("td[data-n]")) {
        cell.dataset.s ??= cell.textContent;
        cell.textContent = on ? number.format(cell.dataset.n) : cell.dataset.s;
      }
    });
    const tell = (event) => {
      const cell = event.target.closest("td[data-n]");
      if (!cell) return;
      const from = cell.parentElement.cells[0].textContent, to = heads[cell.cellIndex].textContent.trim();
      const what = cell.classList.contains("on") ? `${from}, found` : `${from}, taken for ${to}`;
      const total = [...cell.parentElement.querySelectorAll("td[data-n]")].reduce((sum, each) => sum + Number(each.dataset.n), 0);
      const share = total ? `, ${((100 * cell.dataset.n) / total).toFixed(2)} %` : "";
      line.textContent = `${what}: ${number.format(cell.dataset.n)} pixels${share}`;
    };
    matrix.addEventListener("mouseover", tell);
    matrix.addEventListener("click", tell);
  }
})();
