# Manual pages, from what the programs tell of themselves:
#   cmake -DGRADECHO=program -DRUN=launch/gradecho-run -DTO=folder -P Pages.cmake
# A command that is added to the program has its page without a line here.

string(TIMESTAMP date "%Y-%m-%d" UTC) # $SOURCE_DATE_EPOCH, if it is set

function(page name section)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE text
    COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE "^(\\.TH [^\n\"]*)\"\"" "\\1\"${date}\"" text "${text}")
  file(WRITE ${TO}/man${section}/${name}.${section} "${text}")
endfunction()

file(REMOVE_RECURSE ${TO})
page(gradecho 1 ${GRADECHO} --help=man)
page(gradecho.yaml 5 ${GRADECHO} --help=yaml)
execute_process(COMMAND ${GRADECHO} --complete help ""
  OUTPUT_VARIABLE commands COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" commands "${commands}")
foreach(command ${commands})
  page(gradecho-${command} 1 ${GRADECHO} ${command} --help=man)
endforeach()
page(gradecho-run 1 ${RUN} --help COMMAND awk
  -v "summary=a training command with monitors beside it"
  -f ${CMAKE_CURRENT_LIST_DIR}/help_to_man.awk)
