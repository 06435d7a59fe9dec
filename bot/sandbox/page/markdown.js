// Discord's Markdown as DOM nodes. Every character of the input ends in a text node.

import { h, safeUrl } from "./dom.js";
import { timestamp } from "./time.js";

const DEPTH = 10;

function link(address, label) {
  const url = safeUrl(address);
  if (!url) return label;
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, label);
}

function spoiler(children) {
  const reveal = (event) => {
    if (node.classList.contains("open")) return;
    event.preventDefault();
    event.stopPropagation();
    node.classList.add("open");
    node.setAttribute("aria-expanded", "true");
    node.removeAttribute("aria-label");
    node.firstChild.removeAttribute("aria-hidden");
  };
  const node = h(
    "span.spoiler",
    {
      role: "button",
      tabindex: "0",
      "aria-expanded": "false",
      "aria-label": "Spoiler, press to show",
      onclick: reveal,
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") reveal(event);
      },
    },
    h("span", { "aria-hidden": "true" }, children),
  );
  return node;
}

const mention = (text) => h("span.mention", null, text);

// Each rule: a sticky pattern, and what its match becomes.
const RULES = [
  [/\\([^A-Za-z0-9\s])/y, (m) => m[1]],
  [/(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/y, (m) => h("code", null, m[2].replace(/^ (?=`)|(?<=`) $/g, ""))],
  [/\*\*\*(?=\S)([\s\S]+?)\*\*\*(?!\*)/y, (m, go) => h("em", null, h("strong", null, go(m[1])))],
  [/\*\*(?=\S)([\s\S]+?)\*\*(?!\*)/y, (m, go) => h("strong", null, go(m[1]))],
  [/__([\s\S]+?)__(?!_)/y, (m, go) => h("u", null, go(m[1]))],
  [/~~([\s\S]+?)~~(?!~)/y, (m, go) => h("s", null, go(m[1]))],
  [/\|\|([\s\S]+?)\|\|/y, (m, go) => spoiler(go(m[1]))],
  [/\*(?=\S)((?:\*\*|\\[\s\S]|[^\\*])+?)(?<=\S)\*(?!\*)/y, (m, go) => h("em", null, go(m[1]))],
  [/(?<!\w)_((?:__|\\[\s\S]|[^\\_])+?)_(?!\w)/y, (m, go) => h("em", null, go(m[1]))],
  [/<t:(-?\d{1,13})(?::([tTdDfFRsS]))?>/y, (m) => timestamp(Number(m[1]), m[2])],
  [/<@!?(\d+)>/y, (m, go, context) => mention(`@${context.userName(m[1]) ?? "unknown-user"}`)],
  [/<#(\d+)>/y, (m, go, context) => mention(`#${context.channelName(m[1]) ?? "unknown"}`)],
  [/<@&\d+>/y, () => mention("@role")],
  [/<\/([^:>]{1,100}):\d+>/y, (m) => mention(`/${m[1]}`)],
  [/<a?:(\w{2,32}):\d+>/y, (m) => `:${m[1]}:`],
  [/<(https?:\/\/[^\s<>]+)>/y, (m) => link(m[1], m[1])],
  [/\[([^\]\n]+)\]\(<?(https?:\/\/[^\s<>)]+)>?(?: "[^"\n]*")?\)/y, (m, go) => link(m[2], go(m[1]))],
  [/https?:\/\/[^\s<>]+[^\s<>.,:;"'\])|]/y, (m) => link(m[0], m[0])],
  [/\n/y, () => h("br")],
];

function inline(text, context, depth = 0) {
  if (depth > DEPTH) return [text];
  const out = [];
  let plain = "";
  let at = 0;
  const go = (inner) => inline(inner, context, depth + 1);
  scan: while (at < text.length) {
    for (const [pattern, make] of RULES) {
      pattern.lastIndex = at;
      const match = pattern.exec(text);
      if (!match) continue;
      const end = pattern.lastIndex;
      if (plain) out.push(plain);
      plain = "";
      out.push(make(match, go, context));
      at = end;
      continue scan;
    }
    plain += text[at];
    at += 1;
  }
  if (plain) out.push(plain);
  return out;
}

function list(lines, context) {
  const root = { indent: -1, node: h("div.list") };
  const stack = [root];
  for (const [, space, mark, body] of lines) {
    const indent = space.length;
    while (stack.length > 1 && stack.at(-1).indent > indent) stack.pop();
    const ordered = /\d/.test(mark);
    if (stack.length > 1 && stack.at(-1).indent === indent && stack.at(-1).ordered !== ordered) stack.pop();
    if (stack.at(-1).indent < indent) {
      const node = h(ordered ? "ol" : "ul", ordered ? { start: parseInt(mark, 10) } : null);
      const parent = stack.at(-1).node;
      (parent.lastElementChild?.tagName === "LI" ? parent.lastElementChild : parent).append(node);
      stack.push({ indent, ordered, node });
    }
    stack.at(-1).node.append(h("li", null, inline(body, context)));
  }
  return root.node;
}

const ITEM = /^( *)([-*]|\d{1,9}\.) +(\S.*)$/;

function blocks(text, context, quoted = false) {
  const out = [];
  const lines = text.split("\n");
  let plain = [];
  const flush = () => {
    if (plain.length) out.push(h("div.line", null, inline(plain.join("\n"), context)));
    plain = [];
  };
  for (let i = 0; i < lines.length; i += 1) {
    const line = lines[i];
    const heading = /^(#{1,3}) +(\S.*)$/.exec(line);
    const small = /^-# +(\S.*)$/.exec(line);
    if (!quoted && line.startsWith(">>> ")) {
      flush();
      const rest = [line.slice(4), ...lines.slice(i + 1)].join("\n");
      out.push(h("blockquote", null, blocks(rest, context, true)));
      return out;
    }
    if (!quoted && /^> /.test(line)) {
      flush();
      const inner = [];
      while (i < lines.length && /^>( |$)/.test(lines[i])) inner.push(lines[i++].slice(2));
      i -= 1;
      out.push(h("blockquote", null, blocks(inner.join("\n"), context, true)));
    } else if (heading) {
      flush();
      out.push(h(`div.h${heading[1].length}`, { role: "heading", "aria-level": heading[1].length + 2 }, inline(heading[2], context)));
    } else if (small) {
      flush();
      out.push(h("div.small", null, inline(small[1], context)));
    } else if (ITEM.test(line)) {
      flush();
      const items = [];
      while (i < lines.length && ITEM.test(lines[i])) items.push(ITEM.exec(lines[i++]));
      i -= 1;
      out.push(list(items, context));
    } else plain.push(line);
  }
  flush();
  return out;
}

/** Render a message's text; `context` has userName(id) and channelName(id). */
export function markdown(text, context) {
  const out = [];
  const fence = /```(?:[\w+-]{1,20}\n)?\n?([\s\S]+?)\n?```\n?/g;
  let last = 0;
  for (const match of text.matchAll(fence)) {
    const before = text.slice(last, match.index).replace(/\n$/, "");
    if (before) out.push(...blocks(before, context));
    out.push(h("pre", { tabindex: "0" }, h("code", null, match[1])));
    last = match.index + match[0].length;
  }
  if (last < text.length) out.push(...blocks(text.slice(last), context));
  return out;
}

/** Render one line of Markdown without blocks, as for titles and field names. */
export const inlineMarkdown = (text, context) => inline(text, context);

/** Return a text without its marks, for previews and screen readers. */
export function plainText(text, context) {
  const box = document.createElement("div");
  for (const node of markdown(text, context)) box.append(node, " ");
  for (const hidden of box.querySelectorAll(".spoiler")) hidden.textContent = "spoiler";
  return box.textContent.trim();
}
