"use strict";
// Where an answer comes from: the picture is covered patch by patch, and how much the answer drops is drawn, as
// occlusion_map() of results/explain.py computes it. Workers have this file, too.

/** How large the patches are that cover a picture one after the other, and where they begin, in rows and in columns. */
function patches(side) {
  const patch = Math.max(1, Math.floor(side / 4)), stride = Math.max(1, Math.floor(side / 16)), starts = [];
  for (let start = 0; start <= side - patch; start += stride) starts.push(start);
  return { patch, starts };
}

/**
 * How much each pixel matters for a class, side×side, as occlusion_map() of results/explain.py computes it.
 * rows: what cover() gives for each row of patches; undefined where that is still to come.
 */
function heatMap(side, rows) {
  const { patch, starts } = patches(side), drops = new Float64Array(side * side), counts = new Float64Array(side * side);
  rows.forEach((row, i) => {
    row?.forEach((drop, j) => {
      const [top, left] = [starts[i], starts[j]];
      atPoints({ side }, { top, left, bottom: top + patch, right: left + patch }, (place) => {
        drops[place] += drop;
        counts[place] += 1;
      });
    });
  });
  const heat = drops.map((sum, place) => Math.max(0, sum / Math.max(1, counts[place])));
  const most = Math.max(1e-9, ...heat);
  return heat.map((value) => value / most);
}
