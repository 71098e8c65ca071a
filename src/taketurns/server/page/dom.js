// Makes elements. Text is always inserted as text, never as markup.

export function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  const { text, classes, ...attributes } = options;
  if (text !== undefined) made.textContent = text;
  if (classes) made.className = classes;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

export const percent = (share) => `${Math.round(100 * share)} %`;

export const counted = (tokens) => `${tokens} ${tokens === 1 ? "token" : "tokens"}`;

export function seconds(value) {
  return value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}
