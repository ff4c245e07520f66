export PATH=$HOME/clipin/bin:$PATH
CLIPIN_COORDINATOR=$(head -n 1 <<<{{addresses}}):8476
export CLIPIN_COORDINATOR CLIPIN_NUM_PROCESSES={{count}} CLIPIN_PROCESS_ID={{number}}
{{command}}
