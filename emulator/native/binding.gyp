{
  "variables": {
    # Path of libunicorn.a, or empty: then the shared library is linked and interpose.cc takes its functions over.
    "unicorn_archive": "<!(node find_unicorn.mjs archive)",

    # Functions inside the archive that the addon takes over; each has its __wrap_ twin in a .cc file here.
    "unicorn_wraps": [
      "-Wl,--wrap=x86_cpu_tlb_fill_x86_64",
      "-Wl,--wrap=memory_mapping",
      "-Wl,--wrap=gen_intermediate_code_x86_64",
      "-Wl,--wrap=cpu_ldub_code_x86_64",
      "-Wl,--wrap=helper_sysenter_x86_64",
      "-Wl,--wrap=cpu_get_tsc_x86_64",
      "-Wl,--wrap=cpu_exec_x86_64",
      "-Wl,--wrap=abort",
      "-Wl,--wrap=helper_syscall_x86_64",
      "-Wl,--wrap=helper_fxsave_x86_64",
      "-Wl,--wrap=helper_phaddw_mmx_x86_64",
      "-Wl,--wrap=helper_phaddw_xmm_x86_64",
      "-Wl,--wrap=helper_phaddd_mmx_x86_64",
      "-Wl,--wrap=helper_phaddd_xmm_x86_64",
      "-Wl,--wrap=helper_phaddsw_mmx_x86_64",
      "-Wl,--wrap=helper_phaddsw_xmm_x86_64",
      "-Wl,--wrap=helper_phsubw_mmx_x86_64",
      "-Wl,--wrap=helper_phsubw_xmm_x86_64",
      "-Wl,--wrap=helper_phsubd_mmx_x86_64",
      "-Wl,--wrap=helper_phsubd_xmm_x86_64",
      "-Wl,--wrap=helper_phsubsw_mmx_x86_64",
      "-Wl,--wrap=helper_phsubsw_xmm_x86_64",
      "-Wl,--wrap=helper_load_seg_x86_64",
      "-Wl,--wrap=helper_ljmp_protected_x86_64",
      "-Wl,--wrap=helper_lcall_protected_x86_64",
      "-Wl,--wrap=helper_lret_protected_x86_64",
      "-Wl,--wrap=helper_iret_protected_x86_64",
      # wraps.cc has its own check_exit_request and update_mxcsr_status; the linker takes the first.
      "-Wl,--allow-multiple-definition",
    ],
  },
  "targets": [
    {
      "target_name": "shimbed_native",
      "sources": ["<!@(node -p \"require('fs').readdirSync('.').filter((f) => f.endsWith('.cc')).sort().join(' ')\")"],
      "include_dirs": ["<!@(node find_unicorn.mjs include)"],
      "defines": ["NAPI_VERSION=8"],
      "cflags!": ["-O3"],
      "cflags": ["-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
      "cflags_cc": ["-std=gnu++20", "-fvisibility-inlines-hidden"],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "gnu++20",
        "GCC_OPTIMIZATION_LEVEL": "2",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
        "MACOSX_DEPLOYMENT_TARGET": "11.0",
        "WARNING_CFLAGS": ["-Wall", "-Wextra"],
      },
      "conditions": [
        ["unicorn_archive!=''", {
          "defines": ["SHIMBED_STATIC_UNICORN=1"],
          "ldflags": ["<@(unicorn_wraps)", "-Wl,--exclude-libs,ALL"],
          "libraries": ["<(unicorn_archive)", "-lpthread", "-lm"],
        }, {
          "defines": ["SHIMBED_STATIC_UNICORN=0"],
          "libraries": ["<!@(node find_unicorn.mjs libs)"],
        }],
      ],
    },
  ],
}
