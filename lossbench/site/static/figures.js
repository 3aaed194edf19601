// Figures, drawn by Plotly from the numbers in the page. Plotly is fetched from the report's own folder when the first
// figure comes near the window. What records say is text: `plain` keeps Plotly from reading markup in it.
"use strict";
(() => {
  const source = document.currentScript.dataset.plotly;
  const data = JSON.parse(document.getElementById("figures").textContent);
  const shapes = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "pentagon"];
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const losses = data.losses ?? (data.loss ? [data.loss] : []);
  const visible = new Set(data.shown ?? losses.keys());
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (loss) => css(`--c${loss.c}`);
  const faded = (hex, alpha) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${alpha})`;
  const short = (text, most = 44) => (text.length > most ? `${text.slice(0, most - 12)}…${text.slice(-11)}` : text);
  const narrow = () => innerWidth < 640;

  const look = (loss, size = 8) => ({
    color: color(loss),
    marker: { color: color(loss), symbol: shapes[loss.s] + (loss.t % 2 ? "-open" : ""), size, line: { width: loss.t % 2 ? 2 : 0, color: color(loss) } },
    line: { color: color(loss), width: 2, dash: dashes[loss.t % 4] },
  });
  const bars = (array, loss, width = 3) => ({ type: "data", array, visible: true, color: faded(color(loss), 0.75), thickness: 1.3, width });
  const axis = (title, more = {}) => ({
    title: { text: title, standoff: 10, font: { size: 13, color: css("--mut") } },
    gridcolor: css("--grid"), linecolor: css("--strong"), zerolinecolor: css("--strong"), tickfont: { size: 12, color: css("--mut") },
    automargin: true, fixedrange: true, ...more,
  });
  const layout = (more = {}) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: css("--sans"), size: 13, color: css("--ink") }, margin: { l: 52, r: 16, t: 12, b: 46 },
    hoverlabel: { bgcolor: css("--surface"), bordercolor: css("--strong"), font: { color: css("--ink"), family: css("--sans") }, align: "left" }, ...more,
  });
  const chosen = () => [...losses.keys()].filter((i) => visible.has(i));

  // Each returns [traces, layout] for the losses that are shown now.
  const kinds = {
    classes() {
      const { names, shares, mean, sd } = data.classes;
      const traces = chosen().map((i) => {
        const loss = losses[i];
        return {
          type: "bar", x: names.map((_, c) => c), y: mean[i], customdata: sd[i].map((value) => (value === null ? "" : ` ± ${value.toFixed(2)}`)),
          marker: { color: loss.t % 2 ? faded(color(loss), 0.35) : color(loss), line: { color: color(loss), width: loss.t % 2 ? 1.5 : 0 } },
          error_y: { ...bars(sd[i], loss, 0), color: css("--ink"), thickness: 1 },
          hovertemplate: `${plain(short(loss.l))}<br>%{text}: %{y:.2f} %{customdata}<extra></extra>`, text: names.map(plain), textposition: "none",
        };
      });
      const ticks = names.map((name, c) => `${plain(short(name, 16))}<br><span style="font-size:10px">${shares[c] ?? "–"} %</span>`);
      const most = Math.max(...chosen().flatMap((i) => mean[i].map((value, c) => (value ?? 0) + (sd[i][c] ?? 0))), 1);
      return [traces, layout({
        bargap: 0.24, bargroupgap: 0.04, xaxis: axis("", { tickvals: names.map((_, c) => c), ticktext: ticks, showgrid: false, zeroline: false }),
        yaxis: axis("IoU (%)", { range: [0, Math.min(100, most * 1.04)] }),
      })];
    },
    gains() {
      const { names, shares } = data.classes, { mean, half } = data.gains;
      const traces = chosen().filter((i) => i !== data.reference).map((i, place, all) => {
        const loss = losses[i], aside = 10 ** ((place - (all.length - 1) / 2) * 0.012);
        return {
          type: "scatter", mode: "markers", x: shares.map((x) => (x ? x * aside : null)), y: mean[i], ...look(loss, 8), error_y: bars(half[i], loss, 0),
          text: names.map(plain), customdata: half[i].map((value) => (value === null ? "" : ` ± ${value.toFixed(2)}`)),
          hovertemplate: `${plain(short(loss.l))}<br>%{text}: %{y:+.2f}%{customdata} points<extra></extra>`,
        };
      });
      // All means are in the frame; an interval that dwarfs them is cut.
      const means = chosen().filter((i) => i !== data.reference).flatMap((i) => mean[i]).filter((v) => v !== null);
      const low = Math.min(-1, ...means), high = Math.max(1, ...means), pad = 0.12 * (high - low);
      return [traces, layout({
        xaxis: axis("share of the training pixels (%, log scale)", { type: "log", zeroline: false }),
        yaxis: axis(`ΔIoU to ${plain(short(losses[data.reference].l))} (points)`, { range: [low - pad, high + pad], zerolinewidth: 2 }),
      })];
    },
    pareto() {
      const p = data.pareto, inside = chosen().filter((i) => !p.outside.includes(i) && p.ms[i] !== null && p.miou[i] !== null);
      const front = p.frontier.filter((i) => inside.includes(i));
      const traces = [{
        type: "scatter", mode: "lines", x: front.map((i) => p.ms[i]), y: front.map((i) => p.miou[i]), hoverinfo: "skip",
        line: { color: css("--strong"), width: 1.5, shape: "hv" },
      }];
      for (const i of inside) {
        const loss = losses[i], named = front.includes(i) || i === data.reference;
        traces.push({
          type: "scatter", mode: named && !narrow() ? "markers+text" : "markers", x: [p.ms[i]], y: [p.miou[i]], ...look(loss, 11),
          error_x: bars([p.ms_sd[i]], loss), error_y: bars([p.sd[i]], loss), text: [`  ${plain(short(loss.l, 34))}`], textposition: p.ms[i] > 0.75 * Math.max(...inside.map((k) => p.ms[k])) ? "top left" : "top right",
          textfont: { size: 12, color: css("--ink") }, cliponaxis: false,
          hovertemplate: `${plain(short(loss.l, 60))}<br>mIoU %{y:.2f}${p.sd[i] === null ? "" : ` ± ${p.sd[i]}`} %<br>%{x:.1f}${p.ms_sd[i] === null ? "" : ` ± ${p.ms_sd[i]}`} ms per step<extra></extra>`,
        });
      }
      const below = chosen().filter((i) => p.outside.includes(i) && p.ms[i] !== null && p.miou[i] !== null);
      const annotations = below.map((i, place) => ({
        xref: "x", yref: "paper", x: p.ms[i], y: 0, yshift: 12 + 16 * place, showarrow: false, text: `▼ ${plain(short(losses[i].l, 30))} ${p.miou[i].toFixed(1)} %`,
        font: { size: 12, color: color(losses[i]) }, xanchor: p.ms[i] > 0.6 * Math.max(...p.ms) ? "right" : "left",
      }));
      return [traces, layout({ annotations, xaxis: axis("milliseconds per optimiser step", { rangemode: "tozero", zeroline: false }), yaxis: axis("mIoU (%)") })];
    },
    trials() {
      const { name, log, curves } = data.tuning, traces = [];
      const numeric = curves.every((curve) => curve.x.every((x) => typeof x === "number"));
      for (const i of chosen()) {
        const loss = losses[i], curve = curves[i], at = (place) => (place === null ? [[], []] : [[curve.x[place]], [curve.y[place]]]);
        traces.push({
          type: "scatter", mode: numeric && curve.line ? "lines+markers" : "markers", x: curve.x, y: curve.y, ...look(loss, 8), text: curve.words.map(plain),
          hovertemplate: `${plain(short(loss.l))}<br>%{text}: %{y:.2f} %<extra></extra>`, line: { color: color(loss), width: 1.4, dash: dashes[loss.t % 4] },
        });
        const [ox, oy] = at(curve.own), [cx, cy] = at(curve.chosen);
        traces.push({ type: "scatter", mode: "markers", x: ox, y: oy, hoverinfo: "skip", marker: { symbol: "x-thin", size: 15, line: { width: 2, color: css("--ink") } } });
        traces.push({ type: "scatter", mode: "markers", x: cx, y: cy, hoverinfo: "skip", marker: { symbol: "circle-open", size: 18, color: css("--ink"), line: { width: 2 } } });
      }
      const title = `${plain(name === "lr" ? "learning rate" : name)} of the trial${log && numeric ? " (log scale)" : ""}`;
      return [traces, layout({ xaxis: axis(title, { type: !numeric ? "category" : log ? "log" : "linear", dtick: numeric && log ? "D2" : undefined, zeroline: false }), yaxis: axis("hold-out mIoU (%)") })];
    },
    expected() {
      const traces = chosen().filter((i) => data.tuning.expected[i].length).map((i) => ({
        type: "scatter", mode: "lines+markers", x: data.tuning.expected[i].map((_, n) => n + 1), y: data.tuning.expected[i], ...look(losses[i], 7),
        hovertemplate: `${plain(short(losses[i].l))}<br>best of %{x}: %{y:.2f} %<extra></extra>`,
      }));
      return [traces, layout({ xaxis: axis("number of trials n", { zeroline: false, showgrid: false }), yaxis: axis("expected best hold-out mIoU (%)") })];
    },
    learning: () => curves(data.curves.loss, "training loss / loss at the start", true),
    scored: () => curves(data.curves.miou, "validation mIoU (%)", false),
    run() {
      const { x, series } = data, loss = losses[0], traces = [];
      if (series.loss) traces.push({ type: "scatter", mode: "lines", x, y: series.loss, line: { color: color(loss), width: 1.6 }, hovertemplate: "step %{x}: %{y:.4g}<extra>loss</extra>" });
      if (series.lr) traces.push({ type: "scatter", mode: "lines", x, y: series.lr, yaxis: "y2", line: { color: css("--mut"), width: 1, dash: "dot" }, hovertemplate: "step %{x}: %{y:.3g}<extra>learning rate</extra>" });
      return [traces, layout({
        xaxis: axis("optimiser step", { showgrid: false }), yaxis: axis("training loss", { rangemode: "tozero" }),
        yaxis2: axis("learning rate (dotted)", { tickformat: ".2~g", overlaying: "y", side: "right", showgrid: false, rangemode: "tozero", zeroline: false }), margin: { l: 52, r: 62, t: 12, b: 46 },
      })];
    },
    eval() {
      const trace = { type: "scatter", mode: "lines+markers", x: data.eval.x, y: data.eval.y, ...look(losses[0], 7), hovertemplate: "step %{x}: %{y:.2f} %<extra></extra>" };
      return [[trace], layout({ xaxis: axis("optimiser step", { showgrid: false }), yaxis: axis("validation mIoU (%)") })];
    },
    diagnostics() {
      const names = Object.keys(data.diagnostics), made = {}, traces = [];
      names.forEach((name, place) => {
        const key = place ? String(place + 1) : "", gap = Math.min(0.07, 0.3 / names.length), each = (1 - gap * (names.length - 1)) / names.length;
        const bottom = 1 - place * (each + gap) - each;
        traces.push({ type: "scatter", mode: "lines", x: data.x, y: data.diagnostics[name], yaxis: `y${key}`, line: { color: color(losses[0]), width: 1.5 }, hovertemplate: `step %{x}: %{y:.4g}<extra>${plain(name)}</extra>` });
        made[`yaxis${key}`] = axis("", { domain: [Math.max(0, bottom), Math.min(1, bottom + each)], tickformat: ".1e", nticks: 4, zeroline: false });
      });
      const annotations = names.map((name, place) => ({ text: plain(name), xref: "paper", yref: `y${place ? place + 1 : ""} domain`, x: 1, y: 1, xanchor: "right", yanchor: "bottom", showarrow: false, font: { size: 12, color: css("--mut") } }));
      return [traces, layout({ ...made, annotations, xaxis: axis("optimiser step", { showgrid: false, anchor: `y${names.length > 1 ? names.length : ""}` }), margin: { l: 62, r: 16, t: 22, b: 46 } }), 90 + 105 * names.length];
    },
  };

  function curves(lines, title, scaled) {
    const traces = [];
    const starts = lines.map((line) => (line ? line.y.find((value) => value !== null) : null));
    const unit = scaled && starts.every((start) => start === null || start > 0);
    for (const i of chosen()) {
      const line = lines[i], loss = losses[i];
      if (!line) continue;
      const by = unit ? starts[i] : 1, y = line.y.map((value) => (value === null ? null : value / by));
      if (line.sd.some((value) => value !== null)) {
        const edge = (sign) => y.map((value, k) => (value === null || line.sd[k] === null ? value : value + (sign * line.sd[k]) / by));
        traces.push({ type: "scatter", mode: "lines", x: [...line.x, ...[...line.x].reverse()], y: [...edge(1), ...edge(-1).reverse()], fill: "toself", fillcolor: faded(color(loss), 0.13), line: { width: 0 }, hoverinfo: "skip" });
      }
      traces.push({ type: "scatter", mode: line.x.length < 30 ? "lines+markers" : "lines", x: line.x, y, ...look(loss, 6), hovertemplate: `${plain(short(loss.l))}<br>step %{x}: %{y:.4g}<extra></extra>` });
    }
    return [traces, layout({ xaxis: axis("optimiser step", { showgrid: false, rangemode: "tozero", zeroline: false }), yaxis: axis(unit || !scaled ? title : "training loss", scaled ? { rangemode: "tozero" } : {}) })];
  }

  function dial(place) {
    const series = Object.values(data.dial)[place], xs = [...new Set(series.flatMap((each) => each.x))].sort((a, b) => a - b);
    const log = xs[0] > 0 && xs.at(-1) >= 8 * xs[0], shown = chosen();
    const traces = shown.map((i, at) => {
      const loss = losses[i], each = series[i], part = (at - (shown.length - 1) / 2) * 0.012;
      return {
        type: "scatter", mode: "lines+markers", x: each.x.map((x) => (log ? x * 10 ** part : x + part * (xs.at(-1) - xs[0]))), y: each.y, ...look(loss, 8), error_y: bars(each.half, loss, 0),
        text: each.x.map(String), hovertemplate: `${plain(short(loss.l))}<br>${plain(data.parameter)} %{text}: %{y:.2f} %<extra></extra>`,
      };
    });
    const title = `${Object.keys(data.dial)[place]} (%)`;
    return [traces, layout({ xaxis: axis(plain(data.parameter) + (log ? " (log scale)" : ""), { type: log ? "log" : "linear", tickvals: xs, ticktext: xs.map(String), zeroline: false }), yaxis: axis(title) })];
  }

  // --- drawing ---
  const plots = [...document.querySelectorAll("[data-plot]")], drawn = new Set();
  let loading = null;
  const library = () => {
    loading ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = source; script.onload = done; script.onerror = failed;
      document.head.append(script);
    });
    return loading;
  };
  const draw = async (plot) => {
    drawn.add(plot);
    await library();
    const [kind, place] = plot.dataset.plot.split(":");
    const [traces, frame, height] = kind === "dial" ? dial(Number(place)) : kinds[kind]();
    if (height) plot.style.height = `${height}px`;
    if (plot.dataset.wide) plot.style.minWidth = `max(100%, ${Number(plot.dataset.wide) * (narrow() ? 52 : 62) + 60}px)`;
    await Plotly.react(plot, traces, frame, { displayModeBar: false, responsive: true, showTips: false });
    plot.dataset.drawn = "true";
  };
  const redraw = () => drawn.forEach(draw);
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });
  plots.forEach((plot) => near.observe(plot));
  document.addEventListener("themechange", redraw);
  addEventListener("beforeprint", () => plots.forEach(draw));

  // --- chips: which losses are shown, in all figures of the page alike ---
  const groups = [...document.querySelectorAll("[data-chips]")];
  const swatch = (loss) => document.querySelector(`.sw.c${loss.c}${loss.t % 2 ? ".hollow" : ":not(.hollow)"}`)?.cloneNode(true);
  const mark = () => {
    for (const chip of document.querySelectorAll(".chips button[data-loss]")) chip.setAttribute("aria-pressed", String(visible.has(Number(chip.dataset.loss))));
    for (const all of document.querySelectorAll(".chips .all")) all.textContent = visible.size === losses.length ? "Show fewer" : "Show all";
  };
  for (const group of groups) {
    losses.forEach((loss, i) => {
      const chip = document.createElement("button");
      chip.type = "button"; chip.dataset.loss = i;
      const picture = swatch(loss);
      if (picture) chip.append(picture);
      chip.append(short(loss.l, 60)); chip.title = loss.l;
      chip.addEventListener("click", () => { visible.has(i) ? visible.delete(i) : visible.add(i); mark(); redraw(); });
      group.append(chip);
    });
    if ((data.shown ?? []).length < losses.length) {
      const all = document.createElement("button");
      all.type = "button"; all.className = "all";
      all.addEventListener("click", () => {
        const some = visible.size === losses.length ? data.shown : losses.keys();
        visible.clear();
        for (const i of some) visible.add(i);
        mark(); redraw();
      });
      group.append(all);
    }
  }
  mark();
})();
