-- GETs for digests that stand in a file, a line each: the file, the first line, how many, and what is before each.
-- They are made before the clock starts: to make one for each answer would cost more than nginx needs to give it.
local LINE = 65
local ready, many, place = {}, 0, 0

init = function(given)
  local file = assert(io.open(given[1], "rb"))
  file:seek("set", tonumber(given[2]) * LINE)
  local head = "GET " .. given[4]
  local tail = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n\r\n"
  while many < tonumber(given[3]) do
    local line = file:read("*l")
    if line then
      many = many + 1
      ready[many] = head .. line .. tail
    else
      file:seek("set", 0)
    end
  end
  file:close()
end

request = function()
  place = place % many + 1
  return ready[place]
end
