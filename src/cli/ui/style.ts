/** Colours: only on a terminal, and never with NO_COLOR (https://no-color.org). */
import type { Io, Screen } from '../io.ts';

export type Tone = 'good' | 'busy' | 'bad' | 'dim' | 'bold' | 'accent' | 'plain';
const codes: Readonly<Record<Tone, string>> = {
  good: '32',
  busy: '33',
  bad: '31',
  dim: '2',
  bold: '1',
  accent: '36',
  plain: '',
};

export type Paint = (tone: Tone, text: string) => string;
export const noPaint: Paint = (_tone, text) => text;
export const colours: Paint = (tone, text) =>
  tone === 'plain' || text === '' ? text : `\u001b[${codes[tone]}m${text}\u001b[0m`;

/** The painter for a screen. */
export function paintFor(io: Io, screen: Screen): Paint {
  const off = (io.env['NO_COLOR'] ?? '') !== '' || io.env['TERM'] === 'dumb';
  return screen.isTTY === true && !off ? colours : noPaint;
}

const tones: Readonly<Record<string, Tone>> = {
  running: 'good',
  online: 'good',
  ready: 'good',
  pending: 'busy',
  starting: 'busy',
  stopping: 'busy',
  deleting: 'busy',
  uploading: 'busy',
  checking: 'busy',
  invited: 'busy',
  paused: 'busy',
  stopped: 'dim',
  failed: 'bad',
  unknown: 'bad',
  silent: 'bad',
  lost: 'bad',
  fenced: 'bad',
  held: 'good',
  lapsed: 'bad',
  sealing: 'bad',
  killing: 'bad',
  none: 'dim',
  leading: 'good',
  candidate: 'bad',
  warning: 'busy',
  error: 'bad',
  info: 'plain',
};

export const toneOf = (state: string): Tone => tones[state] ?? 'plain';
