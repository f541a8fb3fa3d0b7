// Draws the curves of the page: hover, toggle, axes, logarithms, smoothing, zoom.
// Names and numbers come from the inert element #curves, and reach the page as text only.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("curves").textContent);
  const root = document.getElementById("charts");
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const COLORS = 12;
  const state = { axis: "steps", logX: false, logY: false, smooth: 0 };
  const hidden = new Set();
  const drawn = []; // {plot, runs, box, chart}

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (run) => css(`--c${run % COLORS}`);
  const dash = (run) => DASHES[run % DASHES.length];

  function number(value) {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value);
    if (size === 0) return "0";
    for (const [unit, letter] of [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]])
      if (size >= unit) return `${+(value / (letter === "k" ? 1e3 : unit)).toPrecision(4)}${letter}`;
    return size < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e") : `${+value.toPrecision(5)}`;
  }

  // Where on the foot the steps of a run stand; null where the run does not tell.
  const AXES = {
    steps: { label: "steps", place: (run, steps) => steps },
    targets: {
      label: `${data.unit}s`,
      place: (run, steps) => run.targets && steps.map((s) => s * run.targets),
    },
    flops: {
      label: "FLOPs",
      place: (run, steps) => run.flops && steps.map((s) => s * run.flops),
    },
    seconds: {
      label: "device-seconds",
      place: (run, steps) => run.clock && steps.map((s) => between(run.clock, s)),
    },
  };

  // Linear between the clock's points, and on from the last two.
  function between([steps, seconds], step) {
    let i = 1, end = steps.length - 1;
    while (i < end) {
      const middle = (i + end) >> 1;
      if (steps[middle] >= step) end = middle;
      else i = middle + 1;
    }
    const pace = (seconds[i] - seconds[i - 1]) / (steps[i] - steps[i - 1]);
    return seconds[i - 1] + (step - steps[i - 1]) * pace;
  }

  // A Gaussian mean, its deviation a share of the curve's points; gaps weigh nothing.
  function smoothed(values, share) {
    const deviation = Math.max(share * values.length, 0.5), reach = Math.ceil(3 * deviation);
    return values.map((value, i) => {
      if (value === null) return null;
      const near = Math.min(i, reach); // narrower at the first, steep points
      let sum = 0, weights = 0;
      for (let j = i - near; j <= Math.min(i + near, values.length - 1); j++) {
        if (values[j] === null) continue;
        const weight = Math.exp(-0.5 * ((j - i) / deviation) ** 2);
        sum += weight * values[j];
        weights += weight;
      }
      return sum / weights;
    });
  }

  // The curves of a chart as columns over one sorted foot.
  function columns(chart) {
    const tables = [], runs = [];
    for (const curve of chart.curves) {
      let x = AXES[state.axis].place(data.runs[curve.run], data.grids[curve.grid]);
      if (!x) continue;
      let y = state.smooth ? smoothed(curve.values, state.smooth) : curve.values;
      if (state.logY) y = y.map((v) => (v > 0 ? v : null));
      if (state.logX) [x, y] = [x.filter((v) => v > 0), y.filter((_, i) => x[i] > 0)];
      if (!x.length || y.every((v) => v === null)) continue;
      tables.push([x, y]);
      runs.push(curve.run);
    }
    return { runs, table: tables.length ? uPlot.join(tables) : null };
  }

  // Levels such as the teacher's own loss: dashed, named, and never outside the picture.
  function levels(chart) {
    return (u) => {
      const { ctx } = u, { left, top, width, height } = u.bbox, ratio = devicePixelRatio;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = css("--muted");
      ctx.lineWidth = ratio;
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.textAlign = "left";
      ctx.textBaseline = "bottom"; // the axis before left its own
      for (const [name, value] of chart.levels) {
        if (state.logY && value <= 0) continue;
        const y = u.valToPos(value, "y", true);
        if (y < top || y > top + height) continue;
        ctx.setLineDash([4 * ratio, 4 * ratio]);
        ctx.beginPath();
        ctx.moveTo(left, y);
        ctx.lineTo(left + width, y);
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.fillText(`${name} ${number(value)}`, left + 4 * ratio, y - 2 * ratio);
      }
      ctx.restore();
    };
  }

  function tip(runs) {
    const box = element("div", "tip");
    return {
      init: (u) => u.over.appendChild(box),
      setCursor: (u) => {
        const { left, idx } = u.cursor;
        box.hidden = left === undefined || left < 0 || idx === null || !u.over.matches(":hover");
        if (box.hidden) return;
        const rows = runs
          .map((run, i) => ({ run, show: u.series[i + 1].show, value: u.data[i + 1][u.cursor.idxs[i + 1]] }))
          .filter((row) => row.show && row.value !== null && row.value !== undefined)
          .sort((a, b) => a.value - b.value);
        box.replaceChildren(element("b", "", `${number(u.data[0][idx])} ${AXES[state.axis].label}`));
        for (const row of rows) {
          const line = element("div");
          line.append(swatch(row.run), element("span", "", data.runs[row.run].name), element("i", "", number(row.value)));
          box.append(line);
        }
        const right = left > u.over.clientWidth / 2;
        box.style.left = right ? "" : `${left + 12}px`;
        box.style.right = right ? `${u.over.clientWidth - left + 12}px` : "";
      },
    };
  }

  // A curve has no point at every place of the foot: the nearest one that it has.
  function nearest(u, series, at) {
    const y = u.data[series];
    for (let d = 0; d < y.length; d++) {
      if (y[at - d] !== null && y[at - d] !== undefined) return at - d;
      if (y[at + d] !== null && y[at + d] !== undefined) return at + d;
    }
    return at;
  }

  function range(log, extra) {
    return (u, low, high) => {
      if (low === null) return log ? [1, 10] : [0, 1];
      for (const value of extra) if (!log || value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
      if (!log) return uPlot.rangeNum(low, high, 0.06, false);
      return low < high ? [low / (high / low) ** 0.04, high * (high / low) ** 0.04] : [low / 2, high * 2];
    };
  }

  function options(chart, runs, width) {
    const axis = { stroke: css("--muted"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    const lines = { stroke: css("--line"), width: 1 };
    // Of a logarithmic axis only round numbers have a label.
    const text = (log) => (u, values) => values.map((v) => (log && +v?.toPrecision(1) !== v ? "" : number(v)));
    const size = (u, values) => Math.max(34, 10 + 7 * Math.max(0, ...(values || []).map((v) => v.length)));
    const hover = tip(runs);
    return {
      width, height: Math.min(270, Math.max(210, width * 0.6)),
      legend: { show: false },
      focus: { alpha: 0.2 },
      cursor: {
        drag: { x: true, y: true, uni: 30, dist: 6 },
        points: { size: 6 },
        dataIdx: nearest,
        sync: { key: "curves", scales: ["x", null] },
      },
      scales: {
        x: { time: false, distr: state.logX ? 3 : 1 },
        y: { distr: state.logY ? 3 : 1, range: range(state.logY, chart.levels.map((level) => level[1])) },
      },
      axes: [
        { ...axis, grid: { show: false }, values: text(state.logX), size: 26, space: 70 },
        { ...axis, grid: lines, values: text(state.logY), size },
      ],
      series: [{}, ...runs.map((run) => ({
        label: data.runs[run].name, stroke: color(run), width: 1.6, dash: dash(run), show: !hidden.has(run),
      }))],
      hooks: { init: [hover.init], setCursor: [hover.setCursor], draw: [levels(chart)] },
    };
  }

  function draw(chart, box) {
    const { runs, table } = columns(chart);
    const absent = chart.curves.length - runs.length;
    box.note.textContent = absent ? `not on this axis: ${absent} of ${chart.curves.length} runs` : "";
    box.place.replaceChildren();
    if (!table) return;
    const plot = new uPlot(options(chart, runs, box.place.clientWidth), table, box.place);
    drawn.push({ plot, runs, box, chart });
  }

  function frame(chart, group) {
    const figure = element("figure");
    const caption = element("figcaption", "", `${chart.title} `);
    caption.append(element("span", "", chart.unit));
    const place = element("div", "chart"), note = element("p", "meta");
    figure.append(caption, place, note);
    return { figure, place, note, chart, group };
  }

  const frames = [];
  function redraw() {
    for (const { plot } of drawn.splice(0)) plot.destroy();
    for (const one of frames) if (one.group.open) draw(one.chart, one);
    said.textContent = state.smooth
      ? `Smoothed: each point is a Gaussian mean, its deviation ${100 * state.smooth} % of the curve's points.`
      : "Not smoothed.";
  }

  function swatch(run) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "swatch");
    svg.setAttribute("viewBox", "0 0 24 8");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", "M0 4H24");
    line.setAttribute("stroke-dasharray", dash(run).map((d) => d * 0.6).join(" "));
    line.style.stroke = `var(--c${run % COLORS})`;
    svg.append(line);
    return svg;
  }

  function show(run, on) {
    if (on) hidden.delete(run);
    else hidden.add(run);
    buttons.get(run).setAttribute("aria-pressed", String(on));
    for (const { plot, runs } of drawn) {
      const i = runs.indexOf(run);
      if (i >= 0) plot.setSeries(i + 1, { show: on }, false);
    }
  }

  function focus(run) {
    for (const { plot, runs } of drawn) {
      const i = run === null ? -1 : runs.indexOf(run);
      plot.setSeries(i < 0 ? null : i + 1, { focus: i >= 0 }, false);
    }
  }

  const buttons = new Map();
  function legend() {
    const box = element("div", "legend");
    const all = [...new Set(data.charts.flatMap((chart) => chart.curves.map((curve) => curve.run)))].sort((a, b) => a - b);
    for (const run of all) {
      const button = element("button");
      button.append(swatch(run), element("span", "", data.runs[run].name));
      button.type = "button";
      button.title = "click: show or hide; shift and click: this one alone";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", (event) => {
        if (!event.shiftKey) return show(run, hidden.has(run));
        const alone = all.every((other) => hidden.has(other) !== (other === run));
        for (const other of all) show(other, alone || other === run);
      });
      button.addEventListener("mouseenter", () => focus(run));
      button.addEventListener("mouseleave", () => focus(null));
      buttons.set(run, button);
      box.append(button);
    }
    return box;
  }

  function select(label, choices, act) {
    const box = element("label", "", `${label} `), list = element("select");
    for (const [value, text] of choices) {
      const option = element("option", "", text);
      option.value = value;
      list.append(option);
    }
    list.addEventListener("change", () => { act(list.value); redraw(); });
    box.append(list);
    return box;
  }

  function check(label, field) {
    const box = element("label"), input = element("input");
    input.type = "checkbox";
    input.addEventListener("change", () => { state[field] = input.checked; redraw(); });
    box.append(input, ` ${label}`);
    return box;
  }

  function controls() {
    const box = element("div", "controls");
    const known = Object.entries(AXES).filter(([, axis]) => data.runs.some((run) => axis.place(run, [0])));
    box.append(
      select("by", known.map(([name, axis]) => [name, axis.label]), (value) => { state.axis = value; }),
      check("log x", "logX"),
      check("log y", "logY"),
      select("smoothing", [[0, "off"], [0.01, "1 %"], [0.03, "3 %"], [0.1, "10 %"]], (value) => { state.smooth = +value; }),
    );
    return box;
  }

  const said = element("p", "meta");
  root.append(legend(), controls(), said);
  for (const section of [...new Set(data.charts.map((chart) => chart.section))]) {
    const group = element("details"), grid = element("div", "grid");
    group.open = data.open.includes(section);
    group.append(element("summary", "", section), grid);
    for (const chart of data.charts.filter((one) => one.section === section)) {
      const one = frame(chart, group);
      frames.push(one);
      grid.append(one.figure);
    }
    root.append(group);
    group.addEventListener("toggle", redraw);
  }
  redraw();

  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
