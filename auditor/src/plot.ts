/** A small plot as inline SVG: lines or bars over whole numbers, two labels an axis, a legend. Pure. */

export interface Line {
  readonly name: string;
  /** x ascends. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly lines: readonly Line[];
  readonly bars?: boolean;
}

const WIDTH = 720;
const HEIGHT = 200;
const LEFT = 64;
const RIGHT = 12;
const TOP = 24;
const BOTTOM = 28;
/** Told apart also by people who see fewer colours, and on paper by their dashes. */
const COLOURS = ["#0b5fa5", "#c2571a", "#5b5b5b"] as const;
const DASHES = ["", "6 3", "2 3"] as const;

/** @returns an empty text where there is nothing to show; names are ours and need no escaping */
export function plot({ title, x, lines, bars }: Plot): string {
  const points = lines.flatMap((line) => line.points);
  if (points.length === 0) return "";
  const xs = points.map(([at]) => at);
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const most = Math.max(1, ...points.map(([, y]) => y));
  // A bar needs its own width at both ends; a single point stands in the middle.
  const margin = bars || low === high ? 0.5 : 0;
  const span = high - low + 2 * margin;
  const across = (value: number) => round(LEFT + ((value - low + margin) / span) * (WIDTH - LEFT - RIGHT));
  const up = (value: number) => round(HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM));
  const drawn = lines.map((line, i) => {
    return bars ? barsOf(line, across, up, (WIDTH - LEFT - RIGHT) / span) : pathOf(line, i, across, up);
  });
  const floor = HEIGHT - BOTTOM;
  return `<h2>${title}</h2>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">
<path d="M${LEFT} ${TOP}V${floor}H${WIDTH - RIGHT}" fill="none" stroke="#999"/>
<text x="${LEFT - 6}" y="${TOP + 4}" text-anchor="end">${grouped(most)}</text>
<text x="${LEFT - 6}" y="${floor}" text-anchor="end">0</text>
<text x="${LEFT}" y="${HEIGHT - 10}">${x} ${grouped(low)}</text>
<text x="${WIDTH - RIGHT}" y="${HEIGHT - 10}" text-anchor="end">${x} ${grouped(high)}</text>
${drawn.join("\n")}
${lines.length > 1 ? lines.map(({ name }, i) => legend(name, i)).join("\n") : ""}
</svg>`;
}

type Scale = (value: number) => number;

function pathOf({ points }: Line, i: number, across: Scale, up: Scale): string {
  const stroke = `stroke="${COLOURS[i]}" stroke-dasharray="${DASHES[i]}" stroke-width="2" fill="none"`;
  const [first] = points;
  if (!first) return "";
  if (points.length === 1) return `<circle cx="${across(first[0])}" cy="${up(first[1])}" r="3" fill="${COLOURS[i]}"/>`;
  const moves = points.map(([x, y], at) => `${at === 0 ? "M" : "L"}${across(x)} ${up(y)}`);
  return `<path d="${moves.join("")}" ${stroke}/>`;
}

function barsOf({ points }: Line, across: Scale, up: Scale, step: number): string {
  const width = round(Math.max(0.5, step * 0.8));
  const bars = points.map(([x, y]) => {
    const height = round(up(0) - up(y));
    return `<rect x="${round(across(x) - width / 2)}" y="${up(y)}" width="${width}" height="${height}"/>`;
  });
  return `<g fill="${COLOURS[0]}">${bars.join("")}</g>`;
}

function legend(name: string, i: number): string {
  const x = LEFT + 12 + i * 120;
  const line = `<path d="M${x} 12h24" stroke="${COLOURS[i]}" stroke-dasharray="${DASHES[i]}" stroke-width="2"/>`;
  return `${line}<text x="${x + 30}" y="16">${name}</text>`;
}

/** 1,000,000 can be read; 1000000 must be counted. */
export function grouped(value: number): string {
  return String(value).replace(/(?<=[0-9])(?=(?:[0-9]{3})+$)/g, ",");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
