export PATH=$HOME/clipin/bin:$PATH
export CLIPIN_NUM_PROCESSES={{count}}
export CLIPIN_PROCESS_ID={{number}}
export CLIPIN_COORDINATOR=$(head -n 1 <<<{{addresses}}):8476
{{command}}
