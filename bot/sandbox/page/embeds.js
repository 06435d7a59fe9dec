// Embeds, pictures and files of a message.

import { openPicture } from "./dialog.js";
import { fileSize, h, icon, safeUrl } from "./dom.js";
import { inlineMarkdown, markdown, plainText } from "./markdown.js";
import { timestamp } from "./time.js";

const MOST_WIDE = 520;
const MOST_HIGH = 420;
const LARGEST_ZOOM = 1.5;

/** Draw a picture that can be enlarged; `hidden` blurs it until it is pressed. */
export function picture(address, { alt = "", width, height, hidden = false }) {
  const url = safeUrl(address);
  if (!url) return null;
  const img = h("img", { src: url, alt: alt || "Picture", decoding: "async" });
  const fit = (w, t) => {
    const scale = Math.min(MOST_WIDE / w, MOST_HIGH / t, LARGEST_ZOOM);
    img.style.width = `${Math.round(w * scale)}px`;
    img.style.aspectRatio = `${w} / ${t}`;
  };
  if (width && height) fit(width, height);
  else img.addEventListener("load", () => fit(img.naturalWidth, img.naturalHeight), { once: true });
  const node = h("button.picture", { type: "button", title: alt, "aria-label": `Enlarge: ${alt || "picture"}` }, img);
  node.addEventListener("click", () => {
    if (!node.classList.contains("hidden")) return openPicture(url, alt);
    node.classList.remove("hidden");
    node.setAttribute("aria-label", `Enlarge: ${alt || "picture"}`);
    return undefined;
  });
  if (hidden) {
    node.classList.add("hidden");
    node.setAttribute("aria-label", "Spoiler, press to show");
  }
  return node;
}

/** Draw a file as a card that downloads it. */
export function fileCard({ url, filename, size }) {
  return h(
    "a.file",
    { href: safeUrl(url), download: filename, target: "_blank", rel: "noopener noreferrer" },
    icon("file"),
    h("span", null, h("b", null, filename), size !== undefined && h("small", null, fileSize(size))),
    icon("download"),
  );
}

/** Draw a message's attachments: pictures large, other files as cards. */
export function attachments(files) {
  return h(
    "div.attachments",
    null,
    files.map((file) => {
      if (/^image\/(png|jpeg|gif|webp|avif)/.test(file.content_type ?? "")) {
        return picture(file.url, {
          alt: file.description ?? file.filename,
          width: file.width,
          height: file.height,
          hidden: file.filename.startsWith("SPOILER_"),
        });
      }
      return fileCard(file);
    }),
  );
}

const linked = (url, content) =>
  url && safeUrl(url)
    ? h("a", { href: safeUrl(url), target: "_blank", rel: "noopener noreferrer" }, content)
    : content;

function small(url) {
  return safeUrl(url) && h("img.embed-icon", { src: safeUrl(url), alt: "" });
}

function embed(item, context, describe) {
  const md = (text) => markdown(text, context);
  const hex = item.color === undefined || item.color === null ? null : `#${item.color.toString(16).padStart(6, "0")}`;
  const footer = (item.footer || item.timestamp) && h(
    "div.embed-footer",
    null,
    item.footer && small(item.footer.icon_url),
    item.footer?.text,
    item.footer && item.timestamp && " • ",
    item.timestamp && timestamp(Date.parse(item.timestamp) / 1000, "s"),
  );
  return h(
    "article.embed",
    { style: hex ? { "--bar": hex } : {} },
    h(
      "div.embed-text",
      null,
      item.author && h("div.embed-author", null, small(item.author.icon_url), linked(item.author.url, item.author.name)),
      item.title && h("div.embed-title", null, linked(item.url, inlineMarkdown(item.title, context))),
      item.description && h("div.embed-description.md", null, md(item.description)),
      item.fields?.length > 0 && h(
        "dl.embed-fields",
        null,
        item.fields.map((field) =>
          h(
            field.inline ? "div.inline" : "div",
            null,
            h("dt", null, inlineMarkdown(field.name, context)),
            h("dd.md", null, md(field.value)),
          ),
        ),
      ),
    ),
    item.thumbnail && h("div.embed-thumbnail", null, picture(item.thumbnail.url, { alt: describe(item.thumbnail, item) })),
    item.image && h("div.embed-image", null, picture(item.image.url, { ...item.image, alt: describe(item.image, item) })),
    footer,
  );
}

/** Draw a message's embeds; pictures take the alt text of their file, or the title. */
export function embeds(message, context) {
  const describe = ({ url, description }, item) => {
    const file = (message.attachments ?? []).find((entry) => entry.url === url);
    return description ?? file?.description ?? plainText(item.title ?? item.description ?? "", context);
  };
  return h("div.embeds", null, message.embeds.map((item) => embed(item, context, describe)));
}

/** Return the attachments that no embed shows. */
export function loose(message) {
  const shown = new Set(
    (message.embeds ?? []).flatMap((item) => [item.image?.url, item.thumbnail?.url]).filter(Boolean),
  );
  return (message.attachments ?? []).filter((file) => !shown.has(file.url));
}
