// Prefix beam search over CTC columns, number for number as students/beam_search.py does it.

const WIDTH = 16; // words that are followed from column to column
const LEAST = 1e-3; // probability from which on a class of a column is looked at

/**
 * Find the most likely words of one picture.
 *
 * @param {ArrayLike<number>[]} probabilities of each column, by class
 * @param {number} blank the class without a character
 * @returns {{word: number[], probability: number}[]} each word as classes, with its probability over the alignments
 *     that were followed
 */
export function beamSearch(probabilities, blank) {
  // A word is a string here, a code point a class. With it go the probabilities of its alignments that end in a blank,
  // and of those that end in its last character.
  let beam = new Map([["", [1, 0]]]);
  for (const column of probabilities) {
    const choices = Array.from(column, (chance, token) => [token, chance]).filter(([, chance]) => chance > LEAST);
    const ends = new Map();
    const add = (word, place, chance) => {
      if (!ends.has(word)) ends.set(word, [0, 0]);
      ends.get(word)[place] += chance;
    };
    for (const [word, [inBlank, inCharacter]] of beam) {
      const last = [...word].at(-1)?.codePointAt();
      for (const [token, chance] of choices) {
        const longer = word + String.fromCodePoint(token);
        if (token === blank) {
          add(word, 0, (inBlank + inCharacter) * chance);
        } else if (token === last) { // goes on, or comes again after a blank
          add(word, 1, inCharacter * chance);
          add(longer, 1, inBlank * chance);
        } else {
          add(longer, 1, (inBlank + inCharacter) * chance);
        }
      }
    }
    beam = new Map([...ends].sort(([, a], [, b]) => b[0] + b[1] - a[0] - a[1]).slice(0, WIDTH));
  }
  return [...beam]
    .map(([word, ends]) => ({ word: Array.from(word, (char) => char.codePointAt()), probability: ends[0] + ends[1] }))
    .filter(({ probability }) => probability > 0);
}
