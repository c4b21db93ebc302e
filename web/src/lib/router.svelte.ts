// The page's addresses: / (devices), /devices/ID, /bridges and /discovered. Login is no address of its own: it stands in front of whichever
// page was asked for, and gives way to it.

export type Route = { name: 'devices' } | { name: 'device'; id: string } | { name: 'bridges' } | { name: 'discovered' } | { name: 'unknown' };

export function parsePath(path: string): Route {
  const clean = path.replace(/\/+$/, '');
  if (clean === '' || clean === '/devices' || clean === '/login') return { name: 'devices' };
  if (clean === '/bridges') return { name: 'bridges' };
  if (clean === '/discovered') return { name: 'discovered' };
  const match = /^\/devices\/([^/]+)$/.exec(clean);
  if (match) {
    try {
      return { name: 'device', id: decodeURIComponent(match[1]!) };
    } catch {
      return { name: 'unknown' };
    }
  }
  return { name: 'unknown' };
}

export function devicePath(id: string): string {
  return `/devices/${encodeURIComponent(id)}`;
}

class Router {
  route = $state<Route>({ name: 'devices' });

  start(): () => void {
    const read = () => (this.route = parsePath(location.pathname));
    read();
    addEventListener('popstate', read);
    document.addEventListener('click', this.#click);
    return () => {
      removeEventListener('popstate', read);
      document.removeEventListener('click', this.#click);
    };
  }

  go(path: string): void {
    history.pushState(null, '', path);
    this.route = parsePath(path);
  }

  // Plain clicks on our own links stay in the page; modified ones and other targets are the browser's.
  #click = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.('a');
    if (!link || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (parsePath(link.pathname).name === 'unknown') return;
    event.preventDefault();
    if (link.pathname !== location.pathname) this.go(link.pathname);
  };
}

export const router = new Router();
