// How the lab tells a process what to do: a Unix socket, so that no packet of it is ever captured. One JSON object a
// line, `{"do": NAME, ...}`; the answer is a line, too: `{"ok": VALUE}` or `{"error": TEXT}`, in the order asked.
import { createServer } from "node:net";
import { createInterface } from "node:readline";

export function serveControl(path, commands) {
  const server = createServer(async (socket) => {
    socket.on("error", () => {});
    for await (const line of createInterface({ input: socket })) {
      let answer;
      try {
        const { do: name, ...parameters } = JSON.parse(line);
        if (!Object.hasOwn(commands, name)) throw new Error(`no such command: ${name}`);
        answer = { ok: (await commands[name](parameters)) ?? null };
      } catch (error) {
        answer = { error: `${error.message ?? error}${error.cause ? ` (${error.cause})` : ""}` };
      }
      socket.write(`${JSON.stringify(answer)}\n`);
    }
  });
  server.listen(path);
}
