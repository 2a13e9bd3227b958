"use strict";
// A picture, in a page: what its file says, and a square of bytes made of it, as to_tensor() of data/pictures.py makes it
// with Pillow.

/** Which pixels, and with what weights, make each of `count` new ones out of those from `start` to `end` of a line. */
function resampling(length, start, end, count, smooth) {
  const scale = (end - start) / count, stretch = Math.max(1, scale);
  const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
  const weight = smooth ? (x) => cubic(Math.abs(x)) : (x) => (x > -0.5 && x <= 0.5 ? 1 : 0);
  const reach = (smooth ? 2 : 0.5) * stretch;
  return Array.from({ length: count }, (_, i) => {
    const center = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const last = Math.min(length, Math.trunc(center + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => weight((j + first - center + 0.5) * (1 / stretch)));
    const sum = weights.reduce((a, b) => a + b, 0);
    // Pillow computes with whole numbers of 22 bits behind the point.
    return { first, weights: Int32Array.from(weights, (w) => Math.trunc((w / sum) * 2 ** 22 + (w < 0 ? -0.5 : 0.5))) };
  });
}

/** The sum of one channel of some pixels by these weights, as a byte; step: from one pixel's to the next. */
function weigh(bytes, from, step, weights) {
  let sum = 2 ** 21;
  for (let i = 0; i < weights.length; i++) sum += bytes[from + i * step] * weights[i];
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** 22)));
}

/** As Python rounds: halves to the even number. */
const round = (x) => (x - Math.floor(x) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/**
 * What the network sees of a picture of width×height: bytes, 3×side×side.
 * read(left, top, width, height): the bytes of a part of it, red, green, blue and one more for each pixel.
 */
function shrink(width, height, side, framing, read) {
  const whole = framing === "inteira";
  const filled = whole ? Math.max(width, height) : Math.min(width, height);
  const smooth = filled <= side;
  const [across, down] = [width, height].map((length) => {
    const count = whole ? Math.max(1, round((length / filled) * side)) : side;
    const start = whole ? 0 : (length - filled) / 2;
    return resampling(length, start, length - start, count, smooth);
  });
  const end = ({ first, weights }) => first + weights.length;
  const left = across[0].first, right = end(across.at(-1)), top = down[0].first, bottom = end(down.at(-1));

  /** Calls act(bytes, from, row) for each row of the picture; `from` is where it begins in the bytes. */
  const eachRow = (act) => {
    const strip = Math.max(1, Math.floor(2 ** 21 / (right - left))); // rows that are in memory at a time
    for (let start = top; start < bottom; start += strip) {
      const rows = Math.min(strip, bottom - start);
      const bytes = read(left, start, right - left, rows);
      for (let row = 0; row < rows; row++) act(bytes, row * (right - left) * 4, start + row);
    }
  };
  const square = new Uint8Array(3 * side * side).fill(255);
  const [marginLeft, marginTop] = [across, down].map((line) => round((side - line.length) / 2));
  const put = (row, column, c, value) => {
    square[(c * side + marginTop + row) * side + marginLeft + column] = value;
  };

  // As Pillow 13: first what shortens the picture most. The other order would round some bytes otherwise.
  if (height - down.length > Math.max(0, 2 * (width - across.length))) {
    const length = (right - left) * 3, sums = new Int32Array(down.length * length).fill(2 ** 21);
    eachRow((bytes, from, y) => {
      down.forEach(({ first, weights }, row) => {
        if (y < first || y >= first + weights.length) return;
        const weight = weights[y - first], start = row * length;
        for (let i = 0, at = from; i < length; i += 3, at += 4) {
          for (let c = 0; c < 3; c++) sums[start + i + c] += bytes[at + c] * weight;
        }
      });
    });
    const low = Uint8ClampedArray.from(sums, (sum) => sum >> 22);
    down.forEach((_, row) => {
      across.forEach(({ first, weights }, column) => {
        for (let c = 0; c < 3; c++) put(row, column, c, weigh(low, row * length + (first - left) * 3 + c, 3, weights));
      });
    });
    return square;
  }
  const narrow = new Uint8Array((bottom - top) * across.length * 3); // each row as short as in the end
  eachRow((bytes, from, y) => {
    across.forEach(({ first, weights }, column) => {
      const to = ((y - top) * across.length + column) * 3;
      for (let c = 0; c < 3; c++) narrow[to + c] = weigh(bytes, from + (first - left) * 4 + c, 4, weights);
    });
  });
  down.forEach(({ first, weights }, row) => {
    across.forEach((_, column) => {
      const from = ((first - top) * across.length + column) * 3;
      for (let c = 0; c < 3; c++) put(row, column, c, weigh(narrow, from + c, across.length * 3, weights));
    });
  });
  return square;
}

/** Whether a PNG, JPEG, BMP or GIF breaks off before its end: Firefox would show what there is of it. */
function breaksOff(bytes) {
  const has = (place, ...expected) => expected.every((byte, i) => bytes[place + i] === byte);
  const view = new DataView(bytes.buffer);
  let place = 2;
  if (has(0, 0x89, 0x50, 0x4e, 0x47)) {
    // Of parts, each with its length and name, up to the one called IEND.
    for (place = 8; place + 12 <= bytes.length; place += 12 + view.getUint32(place)) {
      if (has(place + 4, 0x49, 0x45, 0x4e, 0x44)) return false;
    }
    return true;
  }
  if (has(0, 0x42, 0x4d) && bytes.length >= 54 && view.getUint32(14, true) >= 40 && view.getUint32(30, true) === 0) {
    const row = Math.ceil((view.getUint16(28, true) * view.getInt32(18, true)) / 32) * 4; // of pixels, not compressed
    return view.getUint32(10, true) + row * Math.abs(view.getInt32(22, true)) > bytes.length;
  }
  if (has(0, 0x47, 0x49, 0x46)) {
    // Of parts, up to the first picture; what each holds is in pieces, each with its length, the last of length 0.
    const palette = (flags) => (flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0);
    const skip = (from) => {
      while (bytes[from]) from += 1 + bytes[from];
      return from + 1;
    };
    for (place = 13 + palette(bytes[10]); place < bytes.length; place = skip(place + 2)) {
      if (bytes[place] === 0x2c) return skip(place + 11 + palette(bytes[place + 9])) > bytes.length;
    }
    return true;
  }
  if (!has(0, 0xff, 0xd8)) return false;
  // Of parts that begin with 255 and a number, most with a length; between them, coded pixels. The last is 255, 217.
  while ((place = bytes.indexOf(0xff, place)) >= 0 && place + 2 <= bytes.length) {
    const kind = bytes[place + 1];
    if (kind === 0xff) place += 1;
    else if (kind === 0xd9) return false;
    else if (kind <= 1 || (kind >= 0xd0 && kind <= 0xd7)) place += 2;
    else if (place + 4 > bytes.length) return true;
    else place += 2 + bytes[place + 2] * 256 + bytes[place + 3];
  }
  return true;
}

/** Whether the EXIF of a WebP or PNG says that it is to be turned, which not all browsers do. */
function isTurned(bytes) {
  const text = (from, length) => String.fromCharCode(...bytes.subarray(from, from + length));
  const webp = text(8, 4) === "WEBP";
  if (!webp && text(1, 3) !== "PNG") return false;
  const view = new DataView(bytes.buffer);
  let place = webp ? 12 : 8, size;
  for (; place + 12 <= bytes.length; place += webp ? 8 + size + (size % 2) : 12 + size) {
    size = view.getUint32(webp ? place + 4 : place, webp);
    if (text(webp ? place : place + 4, 4).toUpperCase() !== "EXIF") continue;
    let start = place + 8;
    if (text(start, 4) === "Exif") start += 6;
    const little = text(start, 2) === "II", first = start + view.getUint32(start + 4, little);
    for (let entry = first + 2; entry < first + 2 + 12 * view.getUint16(first, little); entry += 12) {
      if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little) > 1;
    }
  }
  return false;
}
