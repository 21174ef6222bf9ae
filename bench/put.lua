-- PUTs of blobs that are all new: the first of their numbers, how many, their size, and the token.
local ready, many, place = {}, 0, 0

init = function(given)
  local first, size = tonumber(given[1]), tonumber(given[3])
  many = tonumber(given[2])
  local head = "PUT /api/blob HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port ..
    "\r\nAuthorization: Bearer " .. given[4] .. "\r\nContent-Length: " .. size .. "\r\n\r\n"
  for number = 1, many do
    local name = string.format("%020d", first + number)
    ready[number] = head .. name .. string.rep("carrots, ", math.ceil(size / 9)):sub(1, size - #name)
  end
end

-- Past the last one none is new any more: the answer to this one is a refusal, and the round counts for nothing.
request = function()
  place = place + 1
  return ready[place] or "GET /none HTTP/1.1\r\nHost: none\r\n\r\n"
end
