// The classroom: what `acopio up` tells of its cluster, as it happens. Everything that comes is put into the document as text alone.
'use strict';
(() => {
  const IS = {
    up: 'up', coming: 'coming back', paused: 'paused', dead: 'died', killed: 'killed', wiped: 'wiped', without_power: 'no power', over: 'ended in order',
  };
  const NODE_ORDERS = [
    ['k', 'Kill', 'kill -9; it is started again'],
    ['p', 'Pause', 'SIGSTOP: it is there and answers nothing'],
    ['c', 'Cut', 'nothing passes between it and the heads'],
    ['b', 'Power', 'kill -9, and what it had not synced is gone'],
    ['w', 'Wipe', 'kill -9, and its folder is removed'],
  ];
  const HEAD_ORDERS = [['h', 'Kill', 'kill -9; it is started again']];
  const STEP_MS = 450;
  const DOTS_MAX = 12;
  const ROWS = 8;
  const WAITS_STATES = 4;

  const byId = (id) => document.getElementById(id);
  const cards = new Map();
  const nodes = new Map();
  /** How often a message without an answer was seen, and its dot once it waits. */
  const waits = new Map();
  const dots = new Set();
  let moved = null;

  /** An element; children are elements or text. */
  function el(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function set(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function is(words, state) {
    set(byId('state'), words);
    byId('state').className = state;
  }

  // ---- orders -----------------------------------------------------------------------------------------------------

  async function order(keys) {
    try {
      const response = await fetch('/clase/orders', { method: 'POST', body: keys });
      if (!response.ok) throw new Error(await response.text());
    } catch (error) {
      is(String(error.message || error), 'bad');
    }
  }

  document.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-order]');
    if (button) order(button.dataset.order);
  });

  // ---- members ----------------------------------------------------------------------------------------------------

  /** The card of a member: made once, so that a button is never taken away under a finger. */
  function card(lane, name, orders, number) {
    const known = cards.get(name);
    if (known) return known;
    const parts = { is: el('span', { class: 'is' }), facts: el('div', { class: 'facts' }), late: el('div', { class: 'late' }) };
    const buttons = orders.map(([key, words, title]) =>
      el('button', { type: 'button', 'data-order': key + number, title, 'aria-label': words + ' ' + name }, words));
    parts.card = el('div', { class: 'member', 'data-name': name },
      el('div', { class: 'who' }, el('span', { class: 'name' }, name), parts.is), parts.facts, parts.late,
      ...(buttons.length ? [el('div', { class: 'orders' }, ...buttons)] : []));
    byId(lane).append(parts.card);
    cards.set(name, parts);
    return parts;
  }

  function show(parts, member, facts, late) {
    const words = [IS[member.condition] || '–'];
    if (member.cut) words.push('cut');
    const text = member.cut && member.condition === 'up' ? 'cut' : words.join(', ');
    set(parts.is, text);
    const isWell = member.condition === 'up' && !member.cut;
    parts.card.className = 'member' + (isWell ? '' : member.condition === 'coming' ? ' coming' : ' broken');
    set(parts.facts, facts.filter((fact) => fact).join(' · '));
    set(parts.late, late);
  }

  const waiting = (seconds, count) => (count && seconds >= 3 ? 'no answer for ' + seconds + ' s, ' + count + ' in flight' : '');

  function drawMembers(state) {
    for (const client of state.clients) {
      const flight = client.in_flight ? client.in_flight + ' in flight' : '';
      show(card('clients', client.name, [], 0), client, ['pid ' + client.pid, flight], waiting(client.waits_s, client.in_flight));
    }
    state.heads.forEach((head, k) => show(card('heads', head.name, HEAD_ORDERS, k + 1), head, ['pid ' + head.pid], ''));
    state.nodes.forEach((node, k) => {
      const seen = nodes.get(node.name) || {};
      const facts = ['pid ' + node.pid, node.sync ? 'sync ' + node.sync : '',
        seen.records === undefined ? '' : seen.records + ' records', seen.state ? 'heads say: ' + seen.state : ''];
      const stuck = seen.since && seen.in_flight ? Math.floor((Date.now() - seen.since) / 1000) : 0;
      show(card('nodes', node.name, NODE_ORDERS, k + 1), node, facts, waiting(stuck, seen.in_flight));
    });
  }

  /** What the heads say of the nodes: how many of its messages wait, and since when none was answered. */
  function drawStatus(status) {
    const alarms = status.alarms || [];
    byId('alarms').replaceChildren(...alarms.map((words) => el('li', {}, words)));
    const before = new Map(nodes);
    nodes.clear();
    const report = status.cluster;
    if (!report) return;
    for (const away of report.members_away) nodes.set(away.name, { state: 'no disponible' });
    for (const node of report.nodes) {
      const old = before.get(node.name);
      const isStuck = old && old.in_flight && node.in_flight && old.acked === node.acked;
      nodes.set(node.name, { ...node, since: isStuck ? old.since : Date.now() });
    }
  }

  // ---- counts and lists -------------------------------------------------------------------------------------------

  function drawCounts(counts) {
    const found = counts.found;
    set(byId('sent'), String(counts.sent));
    set(byId('kept'), found.as_of ? String(found.kept) : '–');
    set(byId('lost'), found.as_of ? String(found.lost) : '–');
    set(byId('away'), found.as_of ? String(found.away) : '–');
    set(byId('in-flight'), String(counts.in_flight));
    set(byId('refused'), String(counts.refused));
    byId('lost').className = found.lost ? 'bad' : '';
    set(byId('means'), !found.as_of ? '' : 'Kept: read back at ' + found.as_of + ' UTC, of ' + found.judged +
      ' that were acknowledged by then. Away: not read back while somebody is down. Lost: not read back though all are here.');
  }

  function drawWays(ways) {
    byId('ways').replaceChildren(...ways.slice(-ROWS).reverse().map((way) => el('tr', {},
      el('td', { class: 'n' }, way.text),
      el('td', {}, way.client),
      el('td', {}, way.head || '…'),
      el('td', {}, way.nodes.join(', ') || '…'),
      el('td', {}, way.line ? 'line ' + way.line + ': ' + way.id : way.id || '…'),
      el('td', { class: 'n' }, way.stage === 'refused' ? 'refused' : way.took_ms === null ? 'none yet' : Math.round(way.took_ms) + ' ms'))));
  }

  function drawLines(state) {
    byId('said').replaceChildren(...[...state.said].reverse().map((line) => el('li', {}, line)));
    const isBad = (line) => line.includes('eliminado') || line.includes('sin respuesta') || line.includes('no hay dataNodes');
    byId('heartbeat').replaceChildren(...[...state.heartbeat].reverse().map((line) =>
      el('li', { class: isBad(line) ? 'bad' : null }, line.replace(/^\S+T(\S{8})\S* /, '$1 '))));
  }

  // ---- what moves -------------------------------------------------------------------------------------------------

  function middle(name) {
    const parts = cards.get(name);
    if (!parts) return null;
    const box = parts.card.getBoundingClientRect();
    return { x: box.left + scrollX + box.width / 2, y: box.top + scrollY + box.height / 2 };
  }

  const firstHead = () => (byId('heads').firstElementChild ? byId('heads').firstElementChild.dataset.name : null);

  function remove(dot) {
    dot.remove();
    dots.delete(dot);
  }

  /** A dot that goes from member to member; nothing where one of them is not there. */
  function dot(text, names, delay) {
    const stops = names.map(middle);
    if (stops.includes(null) || dots.size >= DOTS_MAX || document.hidden) return null;
    const made = el('div', { class: 'dot' }, text);
    document.body.append(made);
    dots.add(made);
    const frames = stops.map(({ x, y }) => ({ transform: 'translate(' + (x - 20) + 'px, ' + (y - 12) + 'px)' }));
    const moving = made.animate(frames, { duration: STEP_MS * (stops.length - 1), delay, easing: 'ease-in-out', fill: 'both' });
    return { made, moving };
  }

  /** A message on its way: from the client to the head, to a data node, and back as an answer. */
  function move(way, delay) {
    const head = way.head || firstHead();
    for (const node of way.nodes) {
      const on = dot(way.text, [way.client, head, node, head, way.client], delay);
      if (!on) continue;
      setTimeout(() => on.made.classList.add('back'), delay + STEP_MS * 2);
      on.moving.onfinish = () => remove(on.made);
    }
  }

  function moveNew(ways) {
    const answered = ways.filter((way) => way.stage === 'answered' && way.head);
    const last = answered.reduce((most, way) => Math.max(most, way.number), 0);
    if (moved !== null) {
      answered.filter((way) => way.number > moved).forEach((way, k) => move(way, k * 120));
    }
    moved = Math.max(moved || 0, last);
  }

  /** A message that gets no answer stands at its head until it has one. */
  function parkWaiting(ways) {
    const open = new Map(ways.filter((way) => way.stage === 'sent' || way.stage === 'kept').map((way) => [way.number, way]));
    for (const [number, known] of waits) {
      if (open.has(number)) continue;
      if (known.on) remove(known.on.made);
      waits.delete(number);
    }
    for (const [number, way] of open) {
      const known = waits.get(number) || { seen: 0, on: null };
      known.seen += 1;
      waits.set(number, known);
      if (known.seen < WAITS_STATES || known.on) continue;
      known.on = dot(way.text, [way.client, way.head || firstHead()], 0);
      if (known.on) known.on.made.classList.add('waits');
    }
  }

  // Where members are is another place after this.
  addEventListener('resize', () => {
    dots.forEach(remove);
    waits.clear();
  });

  // ---- the stream -------------------------------------------------------------------------------------------------

  const stream = new EventSource('/clase/events');
  stream.onopen = () => is('live', 'well');
  stream.onerror = () => is('the connection broke; trying again', 'bad');
  let shown = null;
  stream.addEventListener('state', (event) => {
    shown = JSON.parse(event.data);
    drawMembers(shown);
    drawCounts(shown.counts);
    drawWays(shown.ways);
    drawLines(shown);
    moveNew(shown.ways);
    parkWaiting(shown.ways);
  });
  stream.addEventListener('status', (event) => {
    drawStatus(JSON.parse(event.data));
    if (shown) drawMembers(shown);
  });
})();
