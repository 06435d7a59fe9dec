// Dialogs over the page, and the large view of a picture.

import { h, icon, safeUrl } from "./dom.js";

/** Open a dialog; the focus goes back where it was afterwards. */
export function showDialog(dialog) {
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** Show a picture over the whole page. */
export function openPicture(address, alt) {
  const url = safeUrl(address);
  const dialog = h(
    "dialog.lightbox",
    {
      "aria-label": alt || "Picture",
      onclick: (event) => {
        if (event.target.tagName !== "A") dialog.close();
      },
    },
    h("img", { src: url, alt }),
    h("footer", null, alt && h("span", null, alt), h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, "Open original")),
    h("button.icon-button.close", { type: "button", "aria-label": "Close", autofocus: true }, icon("close")),
  );
  showDialog(dialog);
}
