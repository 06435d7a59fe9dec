// What can be done with a message or a person: reply, copy, the bot's own context menus.

import { visible } from "./commands.js";
import { avatar } from "./dom.js";
import { openMenu } from "./menu.js";
import { nameOf } from "./messages.js";

const USER_COMMAND = 2;
const MESSAGE_COMMAND = 3;

/**
 * Return the two menus. `view` is what is looked at, `context` names people and dismisses
 * messages, `run(name, targetId)`, `reply(message)`, `forward(message, channelId)` and
 * `attempt(action)` act.
 */
export function actionMenus(view, context, { run, reply, forward, attempt }) {
  const me = () => view.user(view.userId);

  const apps = (type, targetId) =>
    view.state.commands
      .filter((command) => command.type === type && visible(command, view.place()))
      .map((command) => ({
        label: command.name_localizations?.[me().locale] ?? command.name,
        icon: avatar(view.state.bot, "tiny"),
        pick: () => attempt(() => run(command.name, targetId)),
      }));

  const copy = (label, text, detail) => ({
    label, detail, pick: () => attempt(() => navigator.clipboard.writeText(text)),
  });

  const open = (anchor, label, entries) => openMenu(anchor, entries.filter(Boolean), { label });

  const targets = (message) => [
    { heading: "Forward to" },
    ...view.places().map(({ id, name }) => ({
      label: name, pick: () => attempt(() => forward(message, id)),
    })),
  ];

  return {
    message(message, anchor) {
      const forMessage = message.ephemeral ? [] : apps(MESSAGE_COMMAND, message.id);
      const forUser = apps(USER_COMMAND, message.author.id);
      open(anchor, "Message actions", [
        !message.ephemeral && { label: "Reply", pick: () => reply(message) },
        !message.ephemeral && {
          label: "Forward", pick: () => open(anchor, "Forward to", targets(message)),
        },
        message.content && copy("Copy text", message.content),
        copy("Copy message ID", message.id, message.id),
        message.ephemeral && { label: "Dismiss message", pick: () => context.dismiss(message) },
        forMessage.length > 0 && { heading: "Apps: this message" },
        ...forMessage,
        forUser.length > 0 && { heading: `Apps: ${nameOf(message.author, context)}` },
        ...forUser,
      ]);
    },

    person(person, anchor) {
      const isBot = person.id === view.state.bot.id;
      const dm = view.state.dms[view.userId];
      open(anchor, person.display_name ?? person.name, [
        isBot && dm && { label: "Open direct messages", pick: () => view.go(view.userId, dm) },
        !isBot && person.id !== view.userId && {
          label: `See as ${person.display_name}`, pick: () => view.switchUser(person.id),
        },
        ...apps(USER_COMMAND, person.id),
        copy("Copy user ID", person.id, person.id),
      ]);
    },
  };
}
