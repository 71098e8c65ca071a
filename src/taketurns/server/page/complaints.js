// Shows an invalid value's error beside its field. The browser's own message is not shown for a field
// in a closed section.

import { element } from "./dom.js";

// Whether `form` has an invalid field; focuses the first one. A field's `data-wrong` is its error, unless
// its code has set another one.
export function any(form) {
  for (const field of form.querySelectorAll("[aria-invalid]")) withdraw(field);
  const wrong = [...form.querySelectorAll(":is(input, select, textarea):invalid")];
  for (const field of wrong) {
    about(field, field.validity.customError ? field.validationMessage : field.dataset.wrong);
  }
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
