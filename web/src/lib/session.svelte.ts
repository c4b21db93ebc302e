// Who is logged in. The cookie itself is HttpOnly: only the hub can say.
import { api, ApiError, whenUnauthorised } from './api';
import type { Me } from './model';

type SessionState = 'checking' | 'out' | 'in' | 'unreachable';

class Session {
  state = $state<SessionState>('checking');
  me = $state.raw<Me | undefined>();
  /** The hub ended this login, rather than the person. */
  expired = $state(false);

  async start(): Promise<void> {
    whenUnauthorised(() => this.end(true));
    await this.check();
  }

  async check(): Promise<void> {
    try {
      this.me = await api.me();
      this.state = 'in';
    } catch (error) {
      const refused = error instanceof ApiError && (error.status === 401 || error.status === 403);
      this.state = refused ? 'out' : 'unreachable';
    }
  }

  async login(token: string): Promise<void> {
    await api.login(token);
    this.expired = false;
    await this.check();
  }

  async logout(): Promise<void> {
    await api.logout(); // if it fails the cookie still counts, and so this page must not say otherwise
    this.end(false);
  }

  end(expired: boolean): void {
    this.expired = expired && this.state === 'in';
    this.me = undefined;
    this.state = 'out';
  }
}

export const session = new Session();
