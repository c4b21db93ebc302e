// What a person chose for this browser: theme and language. Storage may be refused; then choices last as long as the page.
import { en } from '../messages/en';
import type { Messages } from '../messages/en';
import { zh } from '../messages/zh';

export type Theme = 'auto' | 'light' | 'dark';
export type Language = 'en' | 'zh';

const catalogues: Record<Language, Messages> = { en, zh };

function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Private windows may forbid it.
  }
}

function firstLanguage(): Language {
  const chosen = stored('hub-language');
  if (chosen === 'en' || chosen === 'zh') return chosen;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

function firstTheme(): Theme {
  const chosen = stored('hub-theme');
  return chosen === 'light' || chosen === 'dark' ? chosen : 'auto';
}

class Prefs {
  language = $state<Language>(firstLanguage());
  theme = $state<Theme>(firstTheme());
  #systemDark = $state(false);

  /** The messages in the chosen language. */
  readonly m = $derived(catalogues[this.language]);
  readonly locale = $derived(this.language === 'zh' ? 'zh-CN' : 'en-GB');
  readonly dark = $derived(this.theme === 'dark' || (this.theme === 'auto' && this.#systemDark));

  start(): void {
    const system = matchMedia('(prefers-color-scheme: dark)');
    this.#systemDark = system.matches;
    system.addEventListener('change', () => (this.#systemDark = system.matches));
    this.#apply();
  }

  setLanguage(language: Language): void {
    this.language = language;
    store('hub-language', language);
    this.#apply();
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    store('hub-theme', theme);
    this.#apply();
  }

  #apply(): void {
    const root = document.documentElement;
    root.lang = this.locale;
    if (this.theme === 'auto') root.removeAttribute('data-theme');
    else root.setAttribute('data-theme', this.theme);
  }
}

export const prefs = new Prefs();
