'use strict';
(() => {
  const every = 5000;
  const place = document.getElementById('refresh');
  const button = document.createElement('button');
  const state = document.createElement('span');
  button.type = 'button';
  state.setAttribute('role', 'status');
  place.append(state, button);
  let live = true;
  let silent = false;

  const show = () => {
    button.textContent = live ? 'Pause' : 'Resume';
    const text = silent ? 'No answer: this is old' : live ? 'Refreshes every 5 s' : 'Paused';
    if (state.textContent !== text) state.textContent = text;
    state.className = silent ? 'bad' : 'muted';
  };

  const refresh = async () => {
    if (!live || document.hidden || String(getSelection())) return;
    try {
      const answer = await fetch(location.pathname, { cache: 'no-store', signal: AbortSignal.timeout(every) });
      if (!answer.ok) throw answer;
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const focus = document.activeElement;
      for (const { id } of document.querySelectorAll('details[open]')) page.getElementById(id)?.setAttribute('open', '');
      for (const part of document.querySelectorAll('[data-live]')) {
        const next = page.getElementById(part.id);
        const holds = part !== focus && part.contains(focus);
        // A reader who is at something without a name keeps the place, and what is older.
        if (!next || (holds && !focus.id)) continue;
        part.replaceChildren(...next.childNodes);
        if (holds) document.getElementById(focus.id)?.focus({ preventScroll: true });
      }
      document.title = page.title;
      silent = false;
    } catch {
      silent = true;
    }
    show();
  };

  button.addEventListener('click', () => {
    live = !live;
    show();
    refresh();
  });
  document.addEventListener('visibilitychange', refresh);
  setInterval(refresh, every);
  show();
})();
