// How each candidate looks: a mark and a class that sets colour, underline and pattern.

const MARKS = ["●", "▲", "■", "◆", "★", "✚", "✖"];

export const mark = (speaker) => (speaker === null ? "+" : MARKS[speaker % MARKS.length]);

export const look = (speaker) => (speaker === null ? "forced" : `s${speaker % MARKS.length}`);
