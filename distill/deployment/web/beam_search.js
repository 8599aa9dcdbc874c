// Prefix beam search over CTC columns, number for number as students/beam_search.py does it.

const WIDTH = 16; // words that are followed from column to column
const LEAST = 1e-3; // probability from which on a class of a column is looked at

/**
 * Find the most likely words of one picture.
 *
 * @param {ArrayLike<number>[]} probabilities of each column, by class
 * @param {number} blank the class without a character
 * @param {number[]} merged by class what it is in a word, where both cases of a letter are the same; between `A` and
 *     `a` no blank has to stand, between `a` and `a` one has
 * @returns {{word: number[], probability: number}[]} each word as merged classes, with its probability over the
 *     alignments that were followed
 */
export function beamSearch(probabilities, blank, merged) {
  // A word is a string here, a code point a merged class. With it go the probabilities of its alignments: under the
  // blank of those that end in one, under a class of those that end in that.
  let beam = new Map([["", new Map([[blank, 1]])]]);
  for (const column of probabilities) {
    const choices = Array.from(column, (chance, token) => [token, chance]).filter(([, chance]) => chance > LEAST);
    const ends = new Map();
    const add = (word, token, probability) => {
      if (!ends.has(word)) ends.set(word, new Map());
      ends.get(word).set(token, (ends.get(word).get(token) ?? 0) + probability);
    };
    for (const [word, alignments] of beam) {
      const last = [...word].at(-1)?.codePointAt();
      for (const [token, chance] of choices) {
        const longer = word + String.fromCodePoint(merged[token]);
        if (token === blank) {
          add(word, token, sum(alignments) * chance);
        } else if (merged[token] !== last) {
          add(longer, token, sum(alignments) * chance);
        } else { // goes on, or comes again, after a blank or as another class
          add(word, token, (alignments.get(token) ?? 0) * chance);
          add(longer, token, sum(alignments, token) * chance);
        }
      }
    }
    beam = new Map([...ends].sort(([, a], [, b]) => sum(b) - sum(a)).slice(0, WIDTH));
  }
  return [...beam]
    .map(([word, ends]) => ({ word: Array.from(word, (char) => char.codePointAt()), probability: sum(ends) }))
    .filter(({ probability }) => probability > 0);
}

/** Add up probabilities, but for those under one class. */
function sum(alignments, but = null) {
  let total = 0;
  for (const [token, probability] of alignments) if (token !== but) total += probability;
  return total;
}
