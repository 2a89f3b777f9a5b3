import manifest from '../../package.json' with { type: 'json' };

/** Version of this program, from its package description. */
export const ownVersion: string = manifest.version;
