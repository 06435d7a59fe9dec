// One message of the list: drawn once, then only the parts that changed are drawn again.

import { avatar, h, icon } from "./dom.js";
import { components, showsPicture, textOf, withoutControls } from "./components.js";
import { attachments, embeds, loose } from "./embeds.js";
import { markdown, plainText } from "./markdown.js";
import { clock, full, when } from "./time.js";

const GROUP_SECONDS = 420;
const SLOWEST_PICTURE_MS = 1500;

const dots = () => h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i"));

/** Return the id of the interaction that a message answers, if it is known. */
export const interactionOf = (message) =>
  message.interaction?.id ?? message.interaction_metadata?.id ?? null;

/** Return the id of the user whose command a message answers, or null. */
const invoker = (message) =>
  message.interaction?.user_id ?? message.interaction?.user?.id ?? null;

// What a message forwards is shown within it, not above it.
const originId = (message) =>
  (message.message_snapshots ? null : message.message_reference?.message_id) ?? message.interaction_metadata?.interacted_message_id ?? null;

/** Return the name to show for a message's author. */
export function nameOf(author, context) {
  return context.userName(author.id) ?? author.global_name ?? author.username;
}

/** Say whether `message` continues the block of `previous`. */
export function continues(message, previous, context) {
  return Boolean(
    previous
      && previous.author.id === message.author.id
      && (!message.interaction?.name || context.isFollowUp(message))
      && originId(message) === null
      && Boolean(previous.ephemeral) === Boolean(message.ephemeral)
      && (Date.parse(message.timestamp) - Date.parse(previous.timestamp)) / 1000 < GROUP_SECONDS,
  );
}

function lead(message, context) {
  const used = message.interaction;
  if (context.isFollowUp(message)) return null;
  if (used?.name) {
    const user = context.user(invoker(message)) ?? used.user ?? { id: "0", name: "someone" };
    return h("div.lead", null, h("span.hook"), avatar(user, "tiny"), h("b", null, user.display_name ?? user.name), " used ", h("span.mention", null, `/${used.name}`));
  }
  const id = originId(message);
  if (id === null) return null;
  const origin = message.referenced_message ?? context.message(id);
  if (origin) {
    const snippet = plainText(textOf(origin), context) || (origin.attachments?.length || origin.embeds?.length || showsPicture(origin) ? "picture or embed" : "message");
    return h(
      "button.lead",
      { type: "button", onclick: () => context.jump(origin.id), "aria-label": "Go to the message this answers" },
      h("span.hook"), avatar(origin.author, "tiny"), h("b", null, nameOf(origin.author, context)), " ", h("span.snippet", null, snippet),
    );
  }
  return h("div.lead", null, h("span.hook"), h("i", null, "a message that is not loaded"));
}

// What each section is made of (its signature) and how it is drawn.
const SECTIONS = {
  lead: {
    of: (m) => [m.interaction?.name, invoker(m), originId(m)],
    draw: lead,
  },
  text: {
    of: (m) => [m.thinking, m.content, Boolean(m.edited_timestamp) && !m.thinking],
    draw(m, context) {
      if (m.thinking) {
        return h("div.thinking", null, dots(), h("span", null, `${nameOf(m.author, context)} is thinking…`));
      }
      const edited = m.edited_timestamp && h("span.edited", { title: full(m.edited_timestamp) }, "(edited)");
      if (!m.content) return null;
      return h("div.text.md", null, markdown(m.content ?? "", context), edited);
    },
  },
  forward: {
    of: (m) => m.message_snapshots,
    draw: (m, context) =>
      m.message_snapshots?.length
        ? h("div.forward", null, h("div.forward-mark", null, "Forwarded"), m.message_snapshots.map(({ message }) => [
            message.content ? h("div.text.md", null, markdown(message.content, context)) : null,
            loose(message).length ? attachments(loose(message)) : null,
            message.embeds?.length ? embeds(message, context) : null,
            message.components?.length ? components(withoutControls(message.components), () => {}, context) : null,
          ]))
        : null,
  },
  files: {
    of: (m) => loose(m).map((file) => [file.url, file.description, file.width]),
    draw: (m) => (loose(m).length ? attachments(loose(m)) : null),
  },
  embeds: {
    of: (m) => [m.embeds, m.attachments?.map((file) => [file.url, file.description])],
    draw: (m, context) => (m.embeds?.length ? embeds(m, context) : null),
  },
  components: {
    of: (m) => m.components,
    draw: (m, context) =>
      m.components?.length
        ? components(m.components, (item, values, node) => context.press(m, item, values, node), context)
        : null,
  },
  foot: {
    of: (m) => m.ephemeral,
    draw: (m, context) =>
      m.ephemeral
        ? h("div.foot", null, icon("eye"), "Only you can see this · ", h("button.text-button", { type: "button", onclick: () => context.dismiss(m) }, "Dismiss message"))
        : null,
  },
};

async function picturesReady(node, old) {
  const known = new Map([...old.querySelectorAll("img")].map((img) => [img.src, img]));
  const fresh = [];
  for (const img of node.querySelectorAll("img")) {
    const same = known.get(img.src);
    if (same) img.replaceWith(same.cloneNode());
    else fresh.push(img.decode().catch(() => {}));
  }
  if (!fresh.length) return;
  const late = new Promise((resolve) => setTimeout(resolve, SLOWEST_PICTURE_MS));
  await Promise.race([Promise.all(fresh), late]);
}

/** A message in the list. `node` is its list item. */
export class MessageView {
  constructor(message, context) {
    this.context = context;
    this.message = message;
    this.drawn = {};
    this.places = Object.fromEntries(Object.keys(SECTIONS).map((name) => [name, h(`div.${name}-place`)]));
    this.note = h("p.note", { role: "alert", hidden: true });
    const { author } = message;
    this.header = h(
      "div.head",
      null,
      h("span.author", null, nameOf(author, context)),
      author.bot && h("span.tag", null, "BOT"),
      h("time.sent", { datetime: message.timestamp, title: full(message.timestamp) }, when(message.timestamp)),
    );
    this.mark = h("span.edited", { hidden: true }, "(edited)");
    this.header.append(this.mark);
    const { lead: leadPlace, ...rest } = this.places;
    this.node = h(
      "li.message",
      { id: `message-${message.id}`, dataset: { id: message.id }, oncontextmenu: (event) => this.menu(event) },
      leadPlace,
      h("div.gutter", null, avatar(context.user(author.id) ?? author), h("time.at", { "aria-hidden": "true" }, clock(message.timestamp))),
      h("div.content", null, this.header, Object.values(rest), this.note),
      h(
        "div.tools",
        null,
        h("button.icon-button", { type: "button", "aria-label": "More actions for this message", "aria-haspopup": "menu", onclick: (event) => context.actions(this.message, event.currentTarget) }, icon("more")),
      ),
    );
    if (message.ephemeral) this.node.classList.add("ephemeral");
    this.update(message);
  }

  menu(event) {
    if (event.target.closest("a, img, .text, pre") && getSelection().toString()) return;
    event.preventDefault();
    this.context.actions(this.message, this.node.querySelector(".tools button"));
  }

  /** Draw what differs from what is drawn. */
  update(message) {
    this.message = message;
    this.node.classList.toggle("is-thinking", Boolean(message.thinking));
    const me = this.context.me();
    this.node.classList.toggle("mentions-me", Boolean(message.mention_everyone || message.mentions?.some((user) => user.id === me)));
    this.mark.hidden = Boolean(message.content) || message.thinking || !message.edited_timestamp;
    this.idle();
    for (const [name, section] of Object.entries(SECTIONS)) {
      const signature = JSON.stringify(section.of(message) ?? null);
      if (this.drawn[name] === signature) continue;
      const first = !(name in this.drawn);
      this.drawn[name] = signature;
      this.replace(name, section.draw(message, this.context), first, signature);
    }
  }

  // A new picture is swapped in when it is decoded, so that previews do not flicker.
  async replace(name, node, first, signature) {
    const place = this.places[name];
    if (!first && node) {
      const focused = place.contains(document.activeElement) && document.activeElement.dataset.customId;
      if (node.querySelector("img")) await picturesReady(node, place);
      if (this.drawn[name] !== signature) return;
      place.replaceChildren(node);
      if (focused) place.querySelector(`[data-custom-id="${CSS.escape(focused)}"]:enabled`)?.focus();
    } else place.replaceChildren(...(node ? [node] : []));
  }

  /** Show under the message that something went wrong. */
  fail(sentence) {
    this.idle();
    this.note.replaceChildren(icon("warn"), sentence);
    this.note.hidden = false;
  }

  /** Stop every button's waiting animation and take the last complaint away. */
  idle() {
    this.note.hidden = true;
    for (const node of this.node.querySelectorAll("[data-busy]")) {
      delete node.dataset.busy;
      node.removeAttribute("aria-busy");
    }
  }
}

/** A command of this user that the bot has not answered yet, or never did. */
export function pendingRow(user, bot, name) {
  const text = h("div.thinking", null, dots(), h("span", null, "Sending the command…"));
  const node = h(
    "li.message.local",
    null,
    h("div.lead-place", null, h("div.lead", null, h("span.hook"), avatar(user, "tiny"), h("b", null, user.display_name), " used ", h("span.mention", null, `/${name}`))),
    h("div.gutter", null, avatar(bot)),
    h("div.content", null, h("div.head", null, h("span.author", null, bot.name), h("span.tag", null, "BOT")), text),
  );
  return {
    node,
    fail(sentence) {
      node.classList.add("ephemeral");
      text.replaceWith(
        h("p.note", { role: "alert" }, icon("warn"), sentence),
        h("div.foot", null, icon("eye"), "Only you can see this · ", h("button.text-button", { type: "button", onclick: () => node.remove() }, "Dismiss message")),
      );
    },
  };
}
