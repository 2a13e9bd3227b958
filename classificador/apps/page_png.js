"use strict";
// A PNG with transparency, laid on white to the byte as Pillow does it: browsers multiply the colours with the transparency
// beforehand, and Firefox rounds that up.

const MOST_EXACT = 12e6; // pixels; a larger one is left to the browser, for its memory

/** What a filter of the PNG format adds to a byte; left, up, corner: the same channel of the pixels decoded before. */
function filtered(kind, left, up, corner) {
  if (kind === 1) return left;
  if (kind === 2) return up;
  if (kind === 3) return (left + up) >> 1;
  const toLeft = Math.abs(up - corner), toUp = Math.abs(left - corner), toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

/**
 * A PNG of 8 bits with transparency, on white: its width, height and bytes, four a pixel, of which the last does not count.
 * Nothing of any other file, and where the browser cannot inflate.
 */
async function onWhite(bytes) {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 33 || view.getUint32(0) !== 0x89504e47 || !self.DecompressionStream) return null;
  const [width, height] = [view.getUint32(16), view.getUint32(20)], channels = { 4: 2, 6: 4 }[bytes[25]];
  if (bytes[24] !== 8 || !channels || bytes[28] || width * height > MOST_EXACT) return null;
  const parts = [];
  for (let place = 8; place + 12 <= bytes.length; place += 12 + view.getUint32(place)) {
    const start = place + 8, isData = view.getUint32(place + 4) === 0x49444154; // IDAT
    if (isData) parts.push(bytes.subarray(start, start + view.getUint32(place)));
  }
  const length = width * channels, lines = new Uint8Array(height * (length + 1)); // and not a byte more, whatever comes
  const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  for (let filled = 0, part; filled < lines.length; filled += part.length) {
    part = (await inflated.read()).value;
    if (!part) return null;
    lines.set(part.subarray(0, lines.length - filled), filled);
  }
  inflated.cancel().catch(() => {});

  const pixels = new Uint8Array(width * height * 4);
  let above = new Uint8Array(length), to = 0;
  for (let start = 0; start < height * (length + 1); start += length + 1) {
    const kind = lines[start], line = lines.subarray(start + 1, start + 1 + length);
    for (let i = 0; kind && i < length; i++) {
      const before = i - channels;
      line[i] += filtered(kind, before < 0 ? 0 : line[before], above[i], before < 0 ? 0 : above[before]);
    }
    for (let from = 0; from < length; from += channels, to += 4) {
      const alpha = line[from + channels - 1];
      for (let c = 0; c < 3; c++) {
        const colour = line[channels === 4 ? from + c : from];
        const sum = 128 * (colour * alpha + 255 * (255 - alpha)) + 2 ** 14; // the rounding of Pillow's AlphaComposite.c
        pixels[to + c] = ((sum >> 8) + sum) >> 15;
      }
    }
    above = line;
  }
  return { width, height, pixels };
}
