// Decode CTC logits to a word by best path, number for number as students/decoding.py does.

const BLANK = 0;

/**
 * @typedef {{text: string, confidence: number, start: number, end: number}} Character
 * its confidence is the highest of the columns that it was read from, which are from start to end of the picture
 */

/**
 * Decode the logits of one picture.
 *
 * @param {Float32Array} logits columns × classes, the blank first
 * @param {string[]} characters what the other classes stand for
 * @returns {{text: string, confidence: number, characters: Character[]}} the confidence is the word's, over all of
 *     its alignments with the columns
 */
export function decodeCtc(logits, characters) {
  const classes = characters.length + 1;
  const columns = logits.length / classes;
  const probabilities = Array.from({ length: columns }, (_, column) =>
    softmax(logits.subarray(column * classes, (column + 1) * classes)));
  const best = probabilities.map((column) => column.indexOf(Math.max(...column)));
  const found = [];
  for (let start = 0, end; start < columns; start = end) {
    for (end = start + 1; end < columns && best[end] === best[start]; end += 1);
    if (best[start] === BLANK) continue;
    const confidence = Math.max(...probabilities.slice(start, end).map((column) => column[best[start]]));
    found.push({ text: characters[best[start] - 1], confidence, start: start / columns, end: end / columns });
  }
  const word = best.filter((id, column) => id !== BLANK && id !== best[column - 1]);
  return {
    text: found.map((character) => character.text).join(""),
    confidence: sumAlignments(probabilities, word),
    characters: found,
  };
}

function softmax(values) {
  const most = Math.max(...values);
  const exponents = Float64Array.from(values, (value) => Math.exp(value - most));
  const total = exponents.reduce((sum, value) => sum + value, 0);
  return exponents.map((value) => value / total);
}

/** Sum the probabilities of all alignments of a word: CTC's forward recursion. */
function sumAlignments(probabilities, word) {
  const path = [BLANK, ...word.flatMap((id) => [id, BLANK])];
  const skips = path.map((id, state) => id !== BLANK && state > 1 && id !== path[state - 2]);
  let reached = path.map((id, state) => (state < 2 ? probabilities[0][id] : 0));
  for (const column of probabilities.slice(1)) {
    reached = path.map((id, state) =>
      column[id] * (reached[state] + (state > 0 ? reached[state - 1] : 0) + (skips[state] ? reached[state - 2] : 0)));
  }
  return Math.min(reached.slice(-2).reduce((sum, value) => sum + value, 0), 1);
}
