// A pop-up list beside an element: user switcher, selects, message actions.

import { h, icon } from "./dom.js";

let close = () => {};

/** Close the open menu, if any. */
export const closeMenu = () => close();

function position(box, anchor) {
  const rect = anchor.getBoundingClientRect();
  const gap = 6;
  const below = innerHeight - rect.bottom - gap * 2;
  const above = rect.top - gap * 2;
  const up = below < Math.min(box.offsetHeight, 260) && above > below;
  box.style.maxHeight = `${Math.max(120, up ? above : below)}px`;
  box.style.minWidth = `${Math.min(rect.width, innerWidth - 16)}px`;
  box.style.left = `${Math.max(8, Math.min(rect.left, innerWidth - box.offsetWidth - 8))}px`;
  if (up) box.style.bottom = `${innerHeight - rect.top + gap}px`;
  else box.style.top = `${rect.bottom + gap}px`;
}

/**
 * Open a menu at `anchor`.
 *
 * `items`: {label, detail, icon, selected, disabled, danger, heading, pick()}. With `multiple`
 * the menu stays open, `pick` toggles, and `onClose` is told at the end.
 */
export function openMenu(anchor, items, { label, multiple = false, choice = false, onClose } = {}) {
  close();
  const role = choice ? "option" : "menuitem";
  const nodes = items.map((item) => {
    if (item.heading) return h("div.menu-heading", { role: "presentation" }, item.heading);
    const node = h(
      "button.menu-item",
      {
        type: "button",
        role,
        tabindex: "-1",
        disabled: item.disabled,
        "aria-selected": choice ? String(Boolean(item.selected)) : null,
        onclick: () => {
          if (!multiple) shut(true);
          item.pick();
          if (multiple) node.setAttribute("aria-selected", String(Boolean(item.selected)));
        },
      },
      item.icon ?? null,
      h("span.menu-text", null, h("span.menu-label", null, item.label), item.detail && h("span.menu-detail", null, item.detail)),
      choice && h("span.menu-check", null, icon("check")),
    );
    if (item.danger) node.classList.add("danger");
    return node;
  });
  const box = h(
    "div.menu",
    {
      role: choice ? "listbox" : "menu",
      "aria-label": label,
      "aria-multiselectable": multiple ? "true" : null,
      onkeydown: keydown,
    },
    nodes,
  );
  const choices = nodes.filter((node) => node.tagName === "BUTTON" && !node.disabled);

  function keydown(event) {
    const at = choices.indexOf(document.activeElement);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: choices.length - 1 };
    if (event.key in moves) {
      choices.at(moves[event.key] % choices.length)?.focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      shut(true);
    } else if (/^\S$/.test(event.key) && !event.ctrlKey && !event.metaKey) {
      const rest = [...choices.slice(at + 1), ...choices.slice(0, at + 1)];
      const wanted = event.key.toLowerCase();
      rest.find((node) => node.textContent.trim().toLowerCase().startsWith(wanted))?.focus();
      return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function outside(event) {
    if (!box.contains(event.target) && !anchor.contains(event.target)) shut(false);
  }

  function shut(refocus) {
    close = () => {};
    box.remove();
    anchor.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    window.removeEventListener("resize", closeMenu);
    if (refocus) anchor.focus();
    onClose?.();
  }

  close = () => shut(false);
  // Inside an open <dialog> everything outside it is inert, so the menu goes in there.
  (anchor.closest("dialog") ?? document.body).append(box);
  position(box, anchor);
  anchor.setAttribute("aria-expanded", "true");
  document.addEventListener("pointerdown", outside, true);
  window.addEventListener("resize", closeMenu);
  (choices.find((node) => node.getAttribute("aria-selected") === "true") ?? choices[0])?.focus();
}

/** Whether a menu hangs open below this element. */
export const isOpen = (anchor) => anchor.getAttribute("aria-expanded") === "true";
