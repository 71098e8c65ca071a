// The style of each candidate: a mark, and classes that set colour, underline and pattern. After seven
// candidates the styles repeat, hollow; after fourteen the mark is a number.

const COLOURS = 7;
const MARKS = ["●", "▲", "■", "◆", "★", "✚", "✖", "○", "△", "□", "◇", "☆", "⊕", "⊗"];

export const mark = (speaker) => (speaker === null ? "+" : MARKS[speaker] ?? String(speaker + 1));

export function look(speaker) {
  if (speaker === null) return "forced";
  const hollow = Math.floor(speaker / COLOURS) % 2 ? " hollow" : "";
  return `s${speaker % COLOURS}${hollow}`;
}
