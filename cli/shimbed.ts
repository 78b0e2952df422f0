#!/usr/bin/env node

process.stderr.write("shimbed: this build has no commands yet\n");
process.exitCode = 125;
