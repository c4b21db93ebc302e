// Reads something again and again while the page is looked at.

/** Calls read at once, and then every ms after the last call has ended, unless the page is hidden. Returns what ends it. */
export function poll(ms: number, read: () => Promise<void>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  const again = async () => {
    clearTimeout(timer);
    if (!document.hidden) await read();
    if (!over) timer = setTimeout(again, ms);
  };
  const shown = () => {
    if (!document.hidden) void again();
  };
  document.addEventListener('visibilitychange', shown);
  void again();
  return () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', shown);
  };
}
