#!/usr/bin/env node
/** The one entry of Virga: the command line of a site, and the local commands. */
import { runCli } from './cli/main.ts';
import { local } from './local.ts';

process.exitCode = await runCli(process.argv.slice(2), local);
