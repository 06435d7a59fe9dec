// The lists at both sides: channels, direct messages, the user switcher, members.

import { avatar, h, icon } from "./dom.js";
import { openMenu } from "./menu.js";

function entry(view, channel, face, label) {
  const current = channel.id === view.channelId;
  const unread = view.unread.has(channel.id);
  return h(
    `button.channel${unread ? ".unread" : ""}`,
    {
      type: "button",
      "aria-current": current ? "page" : null,
      "aria-label": unread ? `${label}, new messages` : label,
      dataset: { channel: channel.id },
      onclick: () => view.go(view.userId, channel.id),
    },
    face,
    h("span", null, channel.name),
  );
}

const THREADS = [10, 11, 12];

/** Draw the channels of every server, and the direct messages with the bot. */
export function drawChannels(node, view) {
  const { guilds, bot, dms } = view.state;
  const dm = dms[view.userId];
  node.replaceChildren(
    ...guilds.filter((guild) => guild.channels.some(view.canSee)).map((guild, at, shown) =>
      h(
        "section",
        { "aria-label": guild.name },
        h("h2", null, at || shown.length > 1 ? guild.name : "Text channels"),
        guild.channels.filter((channel) => view.canSee(channel)).map((channel) => {
          const node = entry(view, channel, icon("hash"), `Channel ${channel.name}`);
          if (THREADS.includes(channel.type)) node.classList.add("thread");
          if (channel.nsfw) node.append(h("span.nsfw", { title: "Age-restricted" }, "18+"));
          return node;
        }),
      )),
    h(
      "section",
      { "aria-label": "Direct messages" },
      h("h2", null, "Direct messages"),
      dm && entry(
        view,
        { id: dm, name: bot.name },
        h("span.presence", { dataset: { online: bot.online } }, avatar(bot, "small")),
        `Direct messages with ${bot.name}`,
      ),
      (view.state.groups ?? []).filter((group) => view.canSee(group)).map((group) =>
        entry(view, group, icon("people"), `Group ${group.name}`)),
    ),
  );
}

/** Draw the button that shows who is looking, and opens the switcher. */
export function drawMe(button, view) {
  const me = view.user(view.userId);
  button.replaceChildren(
    h("span.presence", { dataset: { online: true } }, avatar(me)),
    h("span.who", null, h("b", null, me.display_name), h("small", null, "Switch user")),
    icon("chevron"),
  );
  button.setAttribute("aria-label", `You are ${me.display_name}. Switch user`);
  button.onclick = () =>
    openMenu(
      button,
      [
        { heading: "Look through the eyes of" },
        ...view.state.users.map((user) => ({
          label: user.display_name,
          detail: [user.name, user.admin && "admin", user.locale].filter(Boolean).join(" · "),
          icon: avatar(user, "small"),
          selected: user.id === view.userId,
          pick: () => view.switchUser(user.id),
        })),
      ],
      { label: "Users", choice: true },
    );
}

function member(person, online, tag, open) {
  return h(
    "button.member",
    { type: "button", onclick: (event) => open(event.currentTarget), "aria-haspopup": "menu" },
    h("span.presence", { dataset: { online } }, avatar(person, "small")),
    h("span.member-name", null, person.display_name ?? person.name),
    tag && h("span.tag", null, tag),
  );
}

/** Draw who is here; `open(person, anchor)` shows what can be done with one. */
export function drawMembers(node, view, open) {
  const { bot, users } = view.state;
  const { guild, visible_to: group } = view.channel() ?? {};
  const here = guild?.members ?? group;
  const people = view.isDm() ? [view.user(view.userId)] : users.filter((user) => here?.includes(user.id) ?? true);
  const present = view.isDm() || (guild && guild.installed !== false);
  node.replaceChildren(
    ...(present ? [
      h("h2", null, bot.online ? "Bots" : "Bots, offline"),
      member(bot, bot.online, "BOT", (anchor) => open(bot, anchor)),
    ] : []),
    h("h2", null, `Online — ${people.length}`),
    ...people.map((user) => member(user, true, user.admin && "ADMIN", (anchor) => open(user, anchor))),
  );
}
