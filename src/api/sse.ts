/** Server-sent events (WHATWG HTML, "Server-sent events"), the reading side. Lines are bounded. */

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
  /** Last id seen; send it as Last-Event-ID to resume. */
  readonly id: string;
}

const maxEventBytes = 64 * 1024 * 1024;

/** Parses a byte stream; an event is given when its empty line has arrived. */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let pending = '';
  let event = 'message';
  let id = '';
  let data: string[] = [];
  for await (const chunk of body) {
    pending += decoder.decode(chunk, { stream: true });
    if (pending.length > maxEventBytes) throw new Error('a server-sent event is larger than 64 MiB');
    const lines = pending.split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n'), id };
        event = 'message';
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') event = value;
      else if (field === 'data') data.push(value);
      else if (field === 'id') id = value;
    }
  }
}
