"use strict";
// The trained network, in a page: from a picture to probabilities, and where they come from. The export runs it too, and
// compares its answers with PyTorch's before it writes the page.
//
// Responses are {channels, side, values}, as a tensor of channels×side×side. A window is the part of the rows and
// columns that is to be computed, {top, left, bottom, right}, the last two excluded: of a picture of which a part is
// covered, only that part and what it reaches are computed again.

/** The bytes of a text in base64, as numbers of a type. */
function decode(text, Numbers) {
  const values = new Uint8Array(128);
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((digit, value) => {
    values[digit.charCodeAt(0)] = value;
  });
  const bytes = new Uint8Array((text.length / 4) * 3);
  for (let from = 0, to = 0; from < text.length; from += 4) {
    const [a, b, c, d] = [0, 1, 2, 3].map((place) => values[text.charCodeAt(from + place)]);
    bytes[to++] = (a << 2) | (b >> 4);
    bytes[to++] = (b << 4) | (c >> 2);
    bytes[to++] = (c << 6) | d;
  }
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return new Numbers(bytes.buffer.slice(0, bytes.length - padding));
}

/** A convolution's or linear layer's numbers: weights, a scale for each row of them, and a shift. */
function unpack(layer) {
  const numbers = decode(layer.weights, layer.bits === 16 ? Int16Array : Float32Array);
  const rows = Math.ceil(layer.outputs / 4) * 4; // multiply() takes four at a time
  const filled = (values, length) => {
    const longer = new Float64Array(length);
    longer.set(values);
    return longer;
  };
  const weights = filled(numbers, rows * (numbers.length / layer.outputs));
  const [scale, shift] = [layer.scale, layer.shift].map((text) => filled(decode(text, Float32Array), rows));
  return { ...layer, rows, weights, scale, shift };
}

/** scale · (weights × column) + shift, for two columns that lie one after the other; `results` likewise. */
function multiply({ weights, rows, scale, shift }, columns, results) {
  const inputs = columns.length / 2;
  // Eight sums at a time: each number that is read serves two or four of them, which is three times as fast as one.
  for (let row = 0; row < rows; row += 4) {
    const w0 = row * inputs, w1 = w0 + inputs, w2 = w1 + inputs, w3 = w2 + inputs;
    let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
    for (let i = 0; i < inputs; i++) {
      const a = columns[i], b = columns[inputs + i];
      const v0 = weights[w0 + i], v1 = weights[w1 + i], v2 = weights[w2 + i], v3 = weights[w3 + i];
      a0 += v0 * a; a1 += v1 * a; a2 += v2 * a; a3 += v3 * a;
      b0 += v0 * b; b1 += v1 * b; b2 += v2 * b; b3 += v3 * b;
    }
    results[row] = a0; results[row + 1] = a1; results[row + 2] = a2; results[row + 3] = a3;
    results[rows + row] = b0; results[rows + row + 1] = b1; results[rows + row + 2] = b2; results[rows + row + 3] = b3;
  }
  for (let i = 0; i < 2 * rows; i++) results[i] = results[i] * scale[i % rows] + shift[i % rows];
}

// Numbers of 64 bits throughout, as JavaScript's own: converting 32 at each use takes Firefox up to fifty times as long.
const blank = (channels, side) => ({ channels, side, values: new Float64Array(channels * side * side) });
const all = (side) => ({ top: 0, left: 0, bottom: side, right: side });

/** Calls act(place) for the place of each point of a window in the first channel. */
function atPoints({ side }, window, act) {
  for (let row = window.top; row < window.bottom; row++) {
    for (let column = window.left; column < window.right; column++) act(row * side + column, row, column);
  }
}

/** A layer that changes each point by itself, where it lies. */
function pointwise(input, change) {
  const points = input.side * input.side;
  const run = (window) => {
    atPoints(input, window, (place) => change(input.values, place, points, input.channels));
    return window;
  };
  return { output: input, run };
}

/** A layer that makes one point of each region of size×size: its maximum and, in channels behind those, its mean. */
function pooling(input, size, withMean) {
  const { channels, side, values } = input;
  const output = blank(withMean ? 2 * channels : channels, Math.floor(side / size)), points = output.side ** 2;
  const run = ({ top, left, bottom, right }) => {
    const window = {
      top: Math.floor(top / size),
      left: Math.floor(left / size),
      bottom: Math.min(output.side, Math.ceil(bottom / size)),
      right: Math.min(output.side, Math.ceil(right / size)),
    };
    atPoints(output, window, (place, row, column) => {
      for (let channel = 0; channel < channels; channel++) {
        const first = (channel * side + row * size) * side + column * size;
        let most = values[first], sum = 0;
        for (let y = 0; y < size; y++) {
          for (let at = first + y * side; at < first + y * side + size; at++) {
            const value = values[at];
            if (value > most) most = value;
            sum += value;
          }
        }
        output.values[channel * points + place] = most;
        if (withMean) output.values[(channels + channel) * points + place] = sum / size ** 2;
      }
    });
    return window;
  };
  return { output, run };
}

// What each kind of layer does to what comes in. They are those of network/cnn.py.
const LAYERS = {
  convolution(layer, input) {
    const { size, outputs, rows } = layer;
    const { channels, side, values } = input;
    const output = blank(outputs, side);
    const before = Math.floor((size - 1) / 2), after = size - 1 - before; // rows of zeros around the image
    const columns = new Float64Array(2 * channels * size * size), results = new Float64Array(2 * rows);
    const gather = (from, row, column) => {
      for (let channel = 0; channel < channels; channel++) {
        for (let y = row - before; y <= row + after; y++) {
          for (let x = column - before; x <= column + after; x++) {
            const inside = y >= 0 && y < side && x >= 0 && x < side;
            columns[from++] = inside ? values[(channel * side + y) * side + x] : 0;
          }
        }
      }
    };
    const run = ({ top, left, bottom, right }) => {
      const window = {
        top: Math.max(0, top - after),
        left: Math.max(0, left - after),
        bottom: Math.min(side, bottom + before),
        right: Math.min(side, right + before),
      };
      for (let row = window.top; row < window.bottom; row++) {
        for (let column = window.left; column < window.right; column += 2) {
          gather(0, row, column);
          gather(columns.length / 2, row, column + 1);
          multiply(layer, columns, results);
          const both = column + 1 < window.right;
          for (let channel = 0; channel < outputs; channel++) {
            const place = (channel * side + row) * side + column;
            output.values[place] = results[channel];
            if (both) output.values[place + 1] = results[rows + channel];
          }
        }
      }
      return window;
    };
    return { output, run };
  },

  linear(layer, input) {
    const output = blank(layer.outputs, 1);
    const columns = new Float64Array(2 * input.values.length), results = new Float64Array(2 * layer.rows);
    const run = () => {
      columns.set(input.values);
      multiply(layer, columns, results);
      output.values.set(results.subarray(0, layer.outputs));
      return all(1);
    };
    return { output, run };
  },

  contrast(layer, input) {
    return pointwise(input, (values, place, points, channels) => {
      let squares = 0;
      for (let i = place; i < values.length; i += points) squares += values[i] * values[i];
      const factor = 1 / Math.sqrt(squares / channels + 0.1);
      for (let i = place; i < values.length; i += points) values[i] *= factor;
    });
  },

  scale(layer, input) {
    const [factors, shifts] = [layer.scale, layer.shift].map((text) => Float64Array.from(decode(text, Float32Array)));
    return pointwise(input, (values, place, points, channels) => {
      for (let c = 0; c < channels; c++) values[c * points + place] = values[c * points + place] * factors[c] + shifts[c];
    });
  },

  relu(layer, input) {
    return pointwise(input, (values, place, points) => {
      for (let i = place; i < values.length; i += points) if (values[i] < 0) values[i] = 0;
    });
  },

  maximum: (layer, input) => pooling(input, layer.size, false),
  maximum_and_mean: (layer, input) => pooling(input, layer.size, true),
};

/** The maps of a layer's output that vary most: their side, how many there are, and some; what is below zero is zero. */
function strongest({ channels, side, values }, count) {
  const maps = Array.from({ length: channels }, (_, channel) => {
    const map = Float32Array.from(values.subarray(channel * side * side, (channel + 1) * side * side), (x) => Math.max(0, x));
    const mean = map.reduce(add) / map.length;
    return { map, spread: map.reduce((sum, value) => sum + (value - mean) ** 2, 0) };
  });
  const first = maps.sort((a, b) => b.spread - a.spread).slice(0, count);
  return { side, channels, maps: first.map(({ map }) => map) };
}

const add = (a, b) => a + b;

/** The layers one after the other, for an image or, mirrored, for its mirror image. */
function makeChain(layers, side, mirrored) {
  const image = blank(3, side);
  const steps = [];
  for (const layer of layers) steps.push(LAYERS[layer.kind](layer, (steps.at(-1) ?? { output: image }).output));
  const held = [...new Set([image, ...steps.map((step) => step.output)])].map(({ values }) => values);
  let kept = [];
  return {
    convolutions: steps.filter((_, i) => layers[i].kind === "convolution").map((step) => step.output),
    /** Put in the window of the pixels (bytes, 3×side×side), and return the logits. */
    run(pixels, { top, left, bottom, right }) {
      let window = mirrored ? { top, bottom, left: side - right, right: side - left } : { top, left, bottom, right };
      atPoints(image, window, (place, row, column) => {
        const from = mirrored ? row * side + side - 1 - column : place;
        for (let channel = 0; channel < 3; channel++) {
          const start = channel * side * side;
          image.values[start + place] = (pixels[start + from] / 255 - 0.5) / 0.5;
        }
      });
      for (const step of steps) window = step.run(window);
      return steps.at(-1).output.values;
    },
    keep() {
      kept = held.map((values) => values.slice());
    },
    restore() {
      held.forEach((values, i) => values.set(kept[i]));
    },
  };
}

function makeNetwork(model) {
  const layers = model.layers.map((layer) => (layer.weights ? unpack(layer) : layer));
  const { side } = model;
  const chains = (model.symmetric ? [false, true] : [false]).map((mirrored) => makeChain(layers, side, mirrored));

  /** The mean of the logits for the image and, of a symmetric network, its mirror image. */
  const logits = (pixels, window) => {
    const answers = chains.map((chain) => chain.run(pixels, window));
    return Array.from(answers[0], (_, i) => answers.reduce((sum, answer) => sum + answer[i], 0) / answers.length);
  };

  const logSoftmax = (values) => {
    const most = Math.max(...values);
    const total = most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
    return values.map((value) => value - total);
  };

  /** Calibrated probabilities for pixels: bytes, 3×side×side. */
  const predict = (pixels) => {
    return logSoftmax(logits(pixels, all(side)).map((value) => value / model.temperature)).map(Math.exp);
  };

  /** The probabilities, and the strongest maps of each convolution, to be drawn. */
  const answer = (pixels) => {
    const probabilities = predict(pixels);
    return { probabilities, strongest: chains[0].convolutions.map((output) => strongest(output, 8)) };
  };

  let whole, uncovered; // the pixels of which the chains keep everything, and the logits for them

  /** How much a class's log probability drops when the patches of page_map.js that begin in row `top` are covered. */
  const cover = (pixels, target, top) => {
    const { patch, starts } = patches(side), points = side * side;
    const means = [0, 1, 2].map((c) => Math.floor(pixels.slice(c * points, (c + 1) * points).reduce(add) / points));
    if (!whole || pixels.some((value, i) => value !== whole[i])) {
      whole = pixels.slice();
      uncovered = logits(pixels, all(side));
      chains.forEach((chain) => chain.keep());
    }
    return starts.map((left) => {
      const window = { top, left, bottom: top + patch, right: left + patch }, covered = pixels.slice();
      atPoints({ side }, window, (place) => means.forEach((value, c) => (covered[c * points + place] = value)));
      chains.forEach((chain) => chain.restore()); // other pictures may have been answered meanwhile
      const answers = logits(covered, window);
      return logSoftmax(uncovered)[target] - logSoftmax(answers)[target];
    });
  };

  return { predict, answer, cover };
}
