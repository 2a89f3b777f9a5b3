/** One byte range of a stored image (RFC 9110, 14): what resumed downloads ask for. */
import type { OpenedImage } from '../images/types.ts';
import type { Headers } from './call.ts';
import type { Readable } from 'node:stream';

export interface WantedRange {
  readonly start: number;
  readonly end?: number;
}

/** The one range asked for; undefined for the whole. Several ranges, or units we do not know, are ignored as the RFC allows. */
export function parseRange(header: string | undefined, sizeBytes: number): WantedRange | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '');
  if (!match) return undefined;
  const [, from = '', to = ''] = match;
  if (from === '' && to === '') return undefined;
  if (from === '') return { start: Math.max(0, sizeBytes - Number(to)) };
  if (to !== '' && Number(to) < Number(from)) return undefined;
  return { start: Number(from), ...(to === '' ? {} : { end: Number(to) }) };
}

/** 200 for the whole, 206 for a part. */
export function rangeReply(
  opened: OpenedImage,
  partial: boolean,
  headers: Headers,
): { readonly stream: Readable; readonly type: string; readonly status: number; readonly headers: Headers } {
  const { start, end } = opened.range;
  return {
    stream: opened.stream,
    type: 'application/octet-stream',
    status: partial ? 206 : 200,
    headers: {
      ...headers,
      'accept-ranges': 'bytes',
      'content-length': String(end - start + 1),
      ...(partial ? { 'content-range': `bytes ${start}-${end}/${opened.sizeBytes}` } : {}),
    },
  };
}
