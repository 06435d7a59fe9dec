// The page: who looks at which channel, what the server says, and what the user does.

import { Refused, api, follow } from "./api.js";
import { visible } from "./commands.js";
import { Composer } from "./composer.js";
import { avatar, h, icon } from "./dom.js";
import { plainText } from "./markdown.js";
import { openMenu } from "./menu.js";
import { interactionOf, invoker, nameOf, pendingRow } from "./messages.js";
import { openForm } from "./modal.js";
import { drawChannels, drawMe, drawMembers } from "./sidebar.js";
import { Thread } from "./thread.js";
import { setLocale } from "./time.js";

const PAGE = 50;
const TYPING_MS = 10000;
const BUSY_MS = 4000;
const USER_COMMAND = 2;
const MESSAGE_COMMAND = 3;

const $ = (id) => document.getElementById(id);

let state = null;
let userId = null;
let channelId = null;
let limit = PAGE;
let stop = () => {};
let loading = null; // events that arrive while a channel's messages are fetched
const unread = new Set();
const dismissed = new Set();
const pending = new Map(); // interaction id -> row of a command without an answer
const pressed = new Map(); // interaction id -> message id
const answered = new Set(); // interaction ids whose outcome came before their own reply
let typingTimer;

const user = (id) => (id === state.bot.id ? state.bot : state.users.find((entry) => entry.id === id));
const channels = () => state.guilds.flatMap((guild) => guild.channels.map((channel) => ({ ...channel, guild })));
// A server that says who sees a channel lists the users; without a list all do.
const canSee = (entry) => entry.visible_to?.includes(userId) ?? true;
const isDm = () => channelId === state.dms[userId];
const channel = () => channels().find((entry) => entry.id === channelId);
const placeName = () => (isDm() ? `@${state.bot.name}` : `#${channel().name}`);
const say = (sentence) => { $("announce").textContent = sentence; };

const view = {
  get state() { return state; },
  get userId() { return userId; },
  get channelId() { return channelId; },
  unread, user, isDm, canSee, go,
  switchUser: (id) => go(id, isDm() ? state.dms[id] : channelId),
};

const context = {
  user,
  me: () => userId,
  userName: (id) => user(id)?.display_name ?? user(id)?.name,
  channelName: (id) => channels().find((entry) => entry.id === id)?.name,
  message: (id) => thread.find(id)?.message,
  isFollowUp: (message) => thread.isFollowUp(message),
  press, actions,
  dismiss(message) {
    dismissed.add(message.id);
    thread.remove(message.id);
    empty();
    $("text")?.focus();
  },
  jump(id) {
    const node = thread.find(id)?.node;
    if (!node) return say("That message is not loaded.");
    node.scrollIntoView({ block: "center", behavior: "smooth" });
    node.classList.remove("flash");
    requestAnimationFrame(() => node.classList.add("flash"));
    return undefined;
  },
};

const thread = new Thread(
  { scroller: $("scroller"), list: $("messages"), pending: $("pending"), jump: $("jump") },
  context,
);

const composer = new Composer($("composer"), {
  state: () => state,
  user: () => user(userId),
  isDm,
  people: () => [...state.users, state.bot],
  places: channels,
  complete: async (name, options, focused) =>
    (await api.autocomplete(userId, channelId, { name, options, focused })).choices ?? [],
  command: runCommand,
  async say(content, files, replyTo) {
    thread.toBottom();
    receive({ type: "message_create", message: await api.send(userId, channelId, content, files, replyTo) });
  },
});

// What the user does.

async function runCommand(name, options, files, targetId) {
  const [asUser, where] = [userId, channelId];
  thread.toBottom();
  const { interaction_id: id } = await api.command(
    asUser, where, { name, options, ...(targetId && { target_id: targetId }) }, files,
  );
  if (answered.delete(id) || asUser !== userId || where !== channelId) return;
  const row = pendingRow(user(asUser), state.bot, name);
  row.name = name;
  pending.set(id, row);
  $("pending").append(row.node);
  empty();
}

async function press(message, item, values, node) {
  node.dataset.busy = "";
  node.setAttribute("aria-busy", "true");
  const rest = () => thread.find(message.id)?.idle();
  try {
    const body = { custom_id: item.custom_id, ...(values && { values }) };
    const { interaction_id: id } = await api.press(userId, message.id, body);
    if (answered.delete(id)) return rest();
    pressed.set(id, message.id);
    // A button that only defers is never heard of again.
    setTimeout(() => pressed.delete(id) && rest(), BUSY_MS);
  } catch (error) {
    thread.find(message.id)?.fail(error.message);
  }
  return undefined;
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    composer.complain(error.message);
  }
}

function commandsOf(type) {
  const here = { admin: user(userId).admin, dm: isDm() };
  return state.commands.filter((command) => command.type === type && visible(command, here));
}

const apps = (type, targetId) =>
  commandsOf(type).map((command) => ({
    label: command.name_localizations?.[user(userId).locale] ?? command.name,
    icon: avatar(state.bot, "tiny"),
    pick: () => attempt(() => runCommand(command.name, {}, [], targetId)),
  }));

function actions(message, anchor) {
  const forMessage = message.ephemeral ? [] : apps(MESSAGE_COMMAND, message.id);
  const forUser = apps(USER_COMMAND, message.author.id);
  openMenu(
    anchor,
    [
      !message.ephemeral && { label: "Reply", pick: () => composer.setReply(message, nameOf(message.author, context)) },
      message.content && { label: "Copy text", pick: () => attempt(() => navigator.clipboard.writeText(message.content)) },
      { label: "Copy message ID", detail: message.id, pick: () => attempt(() => navigator.clipboard.writeText(message.id)) },
      message.ephemeral && { label: "Dismiss message", pick: () => context.dismiss(message) },
      forMessage.length && { heading: "Apps: this message" },
      ...forMessage,
      forUser.length && { heading: `Apps: ${nameOf(message.author, context)}` },
      ...forUser,
    ].filter(Boolean),
    { label: "Message actions" },
  );
}

function memberActions(person, anchor) {
  openMenu(
    anchor,
    [
      person.id === state.bot.id && state.dms[userId] && { label: "Open direct messages", pick: () => go(userId, state.dms[userId]) },
      person.id !== state.bot.id && person.id !== userId && { label: `See as ${person.display_name}`, pick: () => view.switchUser(person.id) },
      ...apps(USER_COMMAND, person.id),
      { label: "Copy user ID", detail: person.id, pick: () => attempt(() => navigator.clipboard.writeText(person.id)) },
    ].filter(Boolean),
    { label: person.display_name ?? person.name },
  );
}

// What the server says.

function settle(id, message) {
  if (id !== null && pending.has(id)) {
    pending.get(id).node.remove();
    pending.delete(id);
  } else if (id === null && message?.interaction) {
    // Without an id the oldest row of this command is the one that is answered.
    for (const [key, row] of pending) {
      if (row.name === message.interaction.name && invoker(message) === userId) {
        row.node.remove();
        pending.delete(key);
        break;
      }
    }
  } else if (id !== null && pressed.has(id)) {
    thread.find(pressed.get(id))?.idle();
    pressed.delete(id);
  } else if (id !== null) answered.add(id);
}

function onMessage(message, isNew) {
  if (dismissed.has(message.id)) return;
  if (isNew) settle(interactionOf(message), message);
  if (message.channel_id !== channelId) {
    if (isNew && message.author.id !== userId) {
      unread.add(message.channel_id);
      drawChannels($("channels"), view);
    }
    return;
  }
  const before = thread.find(message.id)?.message;
  const added = thread.put(message);
  if (message.author.id === state.bot.id) setTyping(null);
  const hasPicture = (m) => Boolean(m?.attachments?.length || m?.embeds?.some((embed) => embed.image));
  if (added && message.author.id !== userId) {
    const [embed] = message.embeds ?? [];
    const words = message.content || embed?.title || embed?.description || "";
    const text = message.thinking ? "is thinking" : plainText(words, context).slice(0, 200);
    say(`${nameOf(message.author, context)}: ${text || (hasPicture(message) ? "a picture" : "a message")}`);
  } else if (before && hasPicture(message) && !hasPicture(before)) {
    say(`${nameOf(message.author, context)} posted a picture`);
  }
  empty();
}

function failed(id, sentence) {
  if (pending.has(id)) {
    pending.get(id).fail(sentence);
    pending.delete(id);
    return;
  }
  const target = pressed.get(id) ?? thread.views.find((v) => interactionOf(v.message) === id)?.message.id;
  pressed.delete(id);
  if (target) thread.find(target)?.fail(sentence);
  else {
    answered.add(id);
    composer.complain(sentence);
  }
}

function form(event) {
  settle(event.interaction_id, null);
  const asUser = userId;
  openForm(event, state.bot, async (values) => {
    const { interaction_id: id } = await api.submit(asUser, event.interaction_id, values);
    if (!answered.delete(id)) pressed.set(id, event.message_id ?? "");
  });
}

function setTyping(person) {
  clearTimeout(typingTimer);
  $("typing").replaceChildren(
    ...(person ? [h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i")), h("b", null, person.display_name ?? person.name), " is typing…"] : []),
  );
  if (person) typingTimer = setTimeout(() => setTyping(null), TYPING_MS);
}

function receive(event) {
  if (loading && event.type.startsWith("message_")) return loading.push(event);
  if (event.type === "message_create") onMessage(event.message, true);
  else if (event.type === "message_update") onMessage(event.message, false);
  else if (event.type === "message_delete") {
    thread.remove(event.message_id);
    empty();
  } else if (event.type === "interaction_answered") settle(event.interaction_id, null);
  else if (event.type === "interaction_failed") failed(event.interaction_id, event.sentence);
  else if (event.type === "modal") form(event);
  else if (event.type === "typing") {
    if (event.channel_id === channelId && event.user_id !== userId) setTyping(user(event.user_id) ?? state.bot);
  } else if (event.type === "state") attempt(refresh);
  return undefined;
}

// What is shown.

function empty() {
  const none = !thread.views.length && !pending.size;
  composer.suggest(none && state.bot.online);
}

function drawHead() {
  const here = channel();
  const dm = isDm();
  $("channel-name").replaceChildren(icon(dm ? "at" : "hash"), dm ? state.bot.name : here.name);
  $("channel-topic").textContent = dm ? "Write what you want to see" : (here.topic ?? "");
  $("guild-name").textContent = here?.guild.name ?? state.guilds[0]?.name ?? "Sandbox";
  $("bot-state").replaceChildren(h("span.dot", { dataset: { online: state.bot.online } }), `${state.bot.name} is ${state.bot.online ? "online" : "offline"}`);
  document.title = `${placeName()} · Sandbox`;
  $("welcome").replaceChildren(
    dm ? avatar(state.bot, "huge") : h("div.big-hash", null, icon("hash")),
    h("h2", null, dm ? state.bot.name : `Welcome to #${here.name}`),
    h(
      "p",
      null,
      dm
        ? "Every message you write here is a prompt. Type / for all commands."
        : "This is where the channel begins. Type / to see what the bot can do.",
    ),
    h("button.text-button", { id: "earlier", type: "button", onclick: () => attempt(earlier) }, "Load earlier messages"),
  );
}

function draw() {
  drawChannels($("channels"), view);
  drawMe($("me"), view);
  drawMembers($("members"), view, memberActions);
  drawHead();
}

async function load() {
  const [asUser, where] = [userId, channelId];
  const buffer = [];
  loading = buffer;
  try {
    const messages = await api.messages(asUser, where, limit);
    if (asUser !== userId || where !== channelId) return;
    thread.fill(messages.filter((message) => !dismissed.has(message.id)));
    $("earlier").hidden = messages.length < limit;
    $("welcome").classList.toggle("more", messages.length >= limit);
  } finally {
    if (loading === buffer) loading = null;
  }
  buffer.forEach(receive);
  empty();
}

async function earlier() {
  limit *= 2;
  const messages = await api.messages(userId, channelId, limit);
  thread.prepend(messages.filter((message) => !dismissed.has(message.id)));
  $("earlier").hidden = messages.length < limit;
}

async function fetchState() {
  const fresh = await api.state();
  fresh.bot.bot = true;
  return fresh;
}

async function refresh() {
  const fresh = await fetchState();
  const commandsChanged = JSON.stringify(fresh.commands) !== JSON.stringify(state.commands);
  state = fresh;
  if (!user(userId) || !(channel() || isDm())) return go(userId, channelId);
  draw();
  if (commandsChanged && !composer.command) composer.input();
  empty();
  return undefined;
}

function banner(sentence) {
  $("banner").textContent = sentence ?? "";
  $("banner").hidden = !sentence;
}

function listen() {
  stop();
  const asUser = userId;
  let lost = false;
  stop = follow(asUser, {
    onEvent: receive,
    onOpen() {
      banner(null);
      if (lost) attempt(async () => { await refresh(); await load(); });
      lost = false;
    },
    onLost() {
      lost = true;
      banner("Connection lost. Reconnecting…");
    },
  });
}

/** Show a channel through a user's eyes; both fall back to something that exists. */
async function go(wantedUser, wantedChannel) {
  const before = userId;
  userId = user(wantedUser) && wantedUser !== state.bot.id ? wantedUser : state.users[0].id;
  const places = [...channels().filter(canSee).map((entry) => entry.id), state.dms[userId]];
  channelId = places.includes(wantedChannel) ? wantedChannel : places[0];
  limit = PAGE;
  unread.delete(channelId);
  pending.clear();
  pressed.clear();
  if (before !== userId) unread.clear();
  history.replaceState(null, "", `#/${userId}/${channelId}`);
  setLocale(user(userId).locale);
  setTyping(null);
  drawer(false);
  draw();
  composer.reset(`Message ${placeName()}`);
  if (before !== userId) listen();
  await attempt(load);
  if (!matchMedia("(pointer: coarse)").matches) $("text")?.focus();
}

function drawer(open) {
  document.body.classList.toggle("drawer", open);
  $("menu-button").setAttribute("aria-expanded", String(open));
  if (open) $("channels").querySelector("[aria-current]")?.focus();
}

function dropping() {
  let depth = 0;
  const show = (on) => { $("drop").hidden = !on; };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) show((depth += 1) > 0);
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) show((depth -= 1) > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show(false);
    if (event.dataTransfer.files.length) composer.takeFiles([...event.dataTransfer.files]);
  });
}

async function start() {
  $("menu-button").append(icon("menu"));
  $("menu-button").onclick = () => drawer(!document.body.classList.contains("drawer"));
  $("scrim").onclick = () => drawer(false);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") drawer(false);
  });
  addEventListener("hashchange", () => {
    const [, wantedUser, wantedChannel] = location.hash.split("/");
    if (wantedUser !== userId || wantedChannel !== channelId) go(wantedUser, wantedChannel);
  });
  dropping();
  for (;;) {
    try {
      state = await fetchState();
      break;
    } catch (error) {
      banner(error instanceof Refused ? error.message : "The sandbox can't be reached.");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  banner(null);
  const [, wantedUser, wantedChannel] = location.hash.split("/");
  await go(wantedUser, wantedChannel);
}

start();
