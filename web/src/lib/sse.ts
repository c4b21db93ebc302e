// Server-sent events from a stream of text, as the HTML standard, 9.2.6 has them.
// EventSource is not used for it hides what an operator must see: the comments by which the hub shows that a quiet stream
// is alive, and the status of a refused connection.

export interface SseEvent {
  type: string;
  data: string;
  id: string; // last id seen; empty when the stream has none
}

export class SseParser {
  #rest = '';
  #type = '';
  #data: string[] = [];
  #id = '';
  #start = true;

  /** Takes the next piece of the stream, cut anywhere, and returns the events it completes. */
  push(piece: string): SseEvent[] {
    let text = this.#rest + piece;
    if (this.#start && text !== '') {
      if (text.startsWith('\uFEFF')) text = text.slice(1);
      this.#start = false;
    }
    const events: SseEvent[] = [];
    let from = 0;
    for (;;) {
      const end = lineEnd(text, from);
      if (end === undefined) break;
      this.#line(text.slice(from, end.at), events);
      from = end.next;
    }
    this.#rest = text.slice(from);
    return events;
  }

  #line(line: string, events: SseEvent[]): void {
    if (line === '') {
      if (this.#data.length > 0) {
        events.push({ type: this.#type || 'message', data: this.#data.join('\n'), id: this.#id });
      }
      this.#type = '';
      this.#data = [];
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'event') this.#type = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }
}

// A CR at the very end may be half of a CRLF, so it waits for the next piece.
function lineEnd(text: string, from: number): { at: number; next: number } | undefined {
  for (let i = from; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 10) return { at: i, next: i + 1 };
    if (c === 13) {
      if (i + 1 === text.length) return undefined;
      return { at: i, next: text.charCodeAt(i + 1) === 10 ? i + 2 : i + 1 };
    }
  }
  return undefined;
}
