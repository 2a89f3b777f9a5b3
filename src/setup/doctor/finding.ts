/** One thing that the doctor looked at. */
export interface Finding {
  readonly area: 'machine' | 'engine' | 'network' | 'storage' | 'security' | 'site';
  readonly title: string;
  /** `ok` · `note`: good to know · `warn`: works, but not as well · `fail`: Virga cannot do its work. */
  readonly state: 'ok' | 'note' | 'warn' | 'fail';
  /** What was found. */
  readonly found: string;
  /** What to do; absent when nothing is to be done. */
  readonly todo?: string;
}

export type Probe = () => Finding[] | Promise<Finding[]>;
