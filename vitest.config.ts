import { defineConfig } from "vitest/config";

/** Where .ci/run finds the counts. */
const report = process.env.SHIMBED_TEST_REPORT;

// Native programs inherit it, guests have Linux's default, and those of another user read what the tests write.
process.umask(0o022);

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    reporters: report === undefined ? ["default"] : ["dot", ["json", { outputFile: report }]],
  },
});
