// Dialog for choosing case and task, shown if there is more than one possibility.

import { options, otherModality, toast, words } from './panel.js';

const byId = (id) => document.getElementById(id);

export class Chooser {
  constructor(app) {
    this.app = app;
    byId('choose-case').addEventListener('change', () => this.propose());
    byId('choose-search').addEventListener('input', () => this.list());
    byId('choose-export').addEventListener('click', () => app.exportDone());
    byId('choose-task').addEventListener('change', () => this.warn());
    byId('chooser').addEventListener('cancel', (event) => { if (!app.opened) event.preventDefault(); });
    byId('chooser').querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.choose();
    });
  }

  // a single case is opened at once, if its task is known
  async begin() {
    const { cases, opened } = this.app;
    byId('turning').hidden = cases.length < 2;
    if (opened) return;
    const wrong = cases.length === 1 ? await this.app.open(0, null) : '';
    if (!this.app.opened) this.ask(wrong);
  }

  // number of the chosen case, -1 without a match
  get number() { return Number(byId('choose-case').value || -1); }

  // opens the next or previous case, asking for an unknown task
  async turn(step) {
    const { app } = this;
    const number = app.opened.case + step;
    if (app.opening || app.cases.length < 2) return;
    if (number < 0 || number >= app.cases.length) toast(step > 0 ? 'This is the last case.' : 'This is the first case.', 'done');
    else if (app.cases[number].begun || app.cases[number].task) {
      const wrong = await app.open(number, null);
      if (wrong) this.ask(wrong, number);
    } else this.ask('', number);
  }

  async ask(wrong = '', number = this.app.opened?.case ?? 0) {
    byId('choose-search').value = '';
    const { tasks } = this.app;
    options(byId('choose-task'), [['', 'none: clicks and exemplars'], ...tasks.map((one) => [one, words(one)])], '');
    this.list(number);
    this.propose();
    byId('choose-error').textContent = wrong;
    if (!byId('chooser').open) byId('chooser').showModal();
    byId('choose-case').focus();
    await this.app.learnStates();
    this.list();
  }

  // cases whose name or state contains all search words
  list(number = this.number) {
    const { cases } = this.app;
    const wanted = byId('choose-search').value.toLowerCase().split(/\s+/).filter(Boolean);
    const pairs = cases.map(({ name, kept }, n) => [String(n), `${n + 1}. ${name}${kept ? ` · ${kept}` : ''}`]);
    const found = pairs.filter(([, text]) => wanted.every((word) => text.toLowerCase().includes(word)));
    const kept = found.some(([n]) => n === String(number)) ? String(number) : found[0]?.[0] ?? '';
    const before = this.number;
    options(byId('choose-case'), found, kept);
    const states = ['done', 'saved', 'begun'].map((state) => [cases.filter((one) => one.kept === state).length, state]);
    const told = [`${found.length} of ${cases.length} cases`, ...states.filter(([count]) => count).map((one) => one.join(' '))];
    byId('choose-count').textContent = told.join(' · ');
    byId('choose-export').disabled = !cases.some((one) => one.kept === 'done');
    if (this.number !== before) this.propose();
  }

  // task of the case itself, never of another case
  propose() {
    byId('choose-open').disabled = this.number < 0;
    byId('choose-note').textContent = this.number < 0 ? 'No case has this in its name or state.' : '';
    byId('choose-error').textContent = '';
    byId('choose-warning').textContent = '';
    if (this.number < 0) return;
    const { task, note, begun } = this.app.cases[this.number];
    byId('choose-task').value = task ?? '';
    byId('choose-task').disabled = begun;
    byId('choose-note').textContent = begun ? 'It opens as it was left, its task too.' : note;
    this.warn();
  }

  warn() {
    const { misfits, modality, begun } = this.app.cases[this.number];
    const task = byId('choose-task').value;
    const wrong = !begun && misfits.includes(task);
    byId('choose-warning').textContent = wrong ? otherModality(words(task), modality) : '';
  }

  // the dialog stays open until the case is open, and shows the reason of a failure
  async choose() {
    const button = byId('choose-open');
    if (button.disabled) return;
    button.disabled = true;
    button.textContent = 'Opening …';
    const wrong = await this.app.open(this.number, byId('choose-task').value);
    button.disabled = false;
    button.textContent = 'Open';
    byId('choose-error').textContent = wrong;
    if (!wrong) byId('chooser').close();
  }
}
