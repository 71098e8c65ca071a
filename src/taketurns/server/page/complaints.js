// What cannot be asked for is said beside the field that it stands in: the browser's own words for it
// are not shown where the field is folded away.

import { element } from "./dom.js";

// Whether something in `form` is wrong; shows the first of it. A field's `data-wrong` says what it takes.
export function any(form) {
  for (const field of form.querySelectorAll("[aria-invalid]")) withdraw(field);
  const wrong = [...form.querySelectorAll(":invalid")];
  for (const field of wrong) about(field, field.dataset.wrong);
  wrong[0]?.closest("details")?.setAttribute("open", "");
  wrong[0]?.focus();
  return wrong.length > 0;
}

export function about(field, sentence) {
  withdraw(field);
  const id = `${field.id}-wrong`;
  field.after(element("p", { id, classes: "wrong", role: "alert", text: sentence }));
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", id);
  field.addEventListener("input", () => withdraw(field), { once: true });
}

export function withdraw(field) {
  document.getElementById(`${field.id}-wrong`)?.remove();
  field.removeAttribute("aria-invalid");
  field.removeAttribute("aria-describedby");
}
